left() {
	xenstore-list "$back" >/dev/null 2>&1 && echo "node $back"
	xenstore-read "$front/backend" >/dev/null 2>&1 && echo "node $front"
	xenstore-list "/libxl/$d/device/$class/$number" >/dev/null 2>&1 && echo "node /libxl/$d/device/$class/$number"
	[ "$class" = vif ] && [ -e "/sys/class/net/vif$d.$number" ] && echo "interface-left vif$d.$number"
}
n=0
while left=$(left); [ -n "$left" ] && [ $n -lt 50 ]; do
	n=$((n + 1))
	sleep 0.1
done
echo "looked $back"
[ -z "$left" ] || echo "$left"
