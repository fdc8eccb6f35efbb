find_interface() {
	is=no
	for i in /sys/class/net/*; do
		[ "$(cat "$i/address")" = "$mac" ] && is=yes && interface=${i##*/}
	done
}
n=0
while find_interface; [ $is != $wanted ] && [ $n -lt 100 ]; do
	n=$((n + 1))
	usleep 100000
done
echo "there $is"
[ $is = no ] || echo "interface $interface"
