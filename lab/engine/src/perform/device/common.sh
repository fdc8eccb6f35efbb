# What every script about devices begins with. Programs of the lab's own busybox, where a userland may have others or none.
bb=/xenlab/busybox

# disk IMAGE BYTES [LINK]: a file of nothing and, where LINK is to lead to it, a loop device for it. Xen's script wants loop devices, too, and
# where no udev has made /dev/loop-control, nothing loads the module for it.
disk() {
	rm -f "$1" && truncate -s "$2" "$1" || return
	[ -e /sys/module/loop ] || modprobe loop
	[ -n "$3" ] || return 0
	l=$(losetup -f) && losetup "$l" "$1" && ln -sfn "$l" "$3"
}

# The loop devices of a file.
loops() {
	for l in /sys/block/loop*/loop/backing_file; do
		[ -e "$l" ] && read -r of <"$l" && [ "$of" = "$1" ] || continue
		l=${l#/sys/block/}
		echo "loop /dev/${l%%/*}"
	done
}

# undisk IMAGE [LINK]: takes away what `disk` made, and says what is still there.
undisk() {
	if [ -n "$2" ] && l=$(readlink "$2"); then
		losetup -d "$l"
		rm -f "$2"
	fi
	n=0
	while left=$(loops "$1"); [ -n "$left" ] && [ $n -lt 30 ]; do
		n=$((n + 1))
		sleep 0.1
	done
	rm -f "$1"
	[ -z "$left" ] || echo "$left"
}

# bridge NAME ADDRESS
bridge() {
	[ -e "/sys/class/net/$1" ] && return
	[ -e /sys/module/bridge ] || modprobe bridge
	$bb brctl addbr "$1" && $bb ip addr add "$2/16" dev "$1" && $bb ip link set "$1" up
}

# What Xen's hotplug scripts wrote last may say why.
hotplug_failed() {
	tail -n 3 /var/log/xen/xen-hotplug.log >&2 2>/dev/null
	exit "$1"
}

# The number of the domain, $d, and of a network interface, $number, which nobody knows but by its address, $mac.
find_device() {
	d=$(xl domid "$domain") || exit 125
	if [ -n "$mac" ]; then
		for number in $(xenstore-list "/local/domain/0/backend/vif/$d" 2>/dev/null) none; do
			[ "$(xenstore-read "/local/domain/0/backend/vif/$d/$number/mac" 2>/dev/null)" = "$mac" ] && break
		done
	fi
	back=/local/domain/0/backend/$type/$d/$number
	front=/local/domain/$d/device/$class/$number
}

# Bytes that this end of a network interface counts: counted NAME WHEN
counted() {
	for way in rx tx; do
		read -r n <"/sys/class/net/$1/statistics/${way}_bytes" && echo "$way-$2 $n"
	done
}
