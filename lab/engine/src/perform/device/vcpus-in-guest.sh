all=/sys/devices/system/cpu
list=0
[ "$vcpus" = 1 ] || list=0-$((vcpus - 1))
more=no
[ "$(grep -c ^processor /proc/cpuinfo)" -lt "$vcpus" ] && more=yes
n=0
while [ "$(cat $all/online)" != "$list" ] && [ $n -lt 100 ]; do
	# What udev's rule does where there is one: a processor that has come is brought online.
	if [ $more = yes ]; then
		for c in $all/cpu[1-9]*/online; do
			[ "$(cat "$c")" = 1 ] || echo 1 >"$c"
		done 2>/dev/null
	fi
	n=$((n + 1))
	usleep 100000
done
echo "online $(cat $all/online)"
