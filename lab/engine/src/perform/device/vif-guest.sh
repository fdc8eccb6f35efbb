[ $is = yes ] || { echo "there is no network interface with the address $mac" >&2; exit 1; }
ip addr flush dev "$interface"
ip addr add "$address/16" dev "$interface" && ip link set "$interface" up || exit
n=0
until ping -c 1 -W 2 "$host" >/dev/null; do
	n=$((n + 1))
	[ $n -lt 3 ] || { echo "$host does not answer to ping from $address" >&2; exit 1; }
done
counted "$interface" before
mkfifo /tmp/device.fifo
timeout 20 nc -w 5 "$host" "$to_guest" <>/tmp/device.fifo >/tmp/device.got || { echo "nothing came whole from $host, port $to_guest" >&2; exit 1; }
echo "got $(sha256sum /tmp/device.got | cut -d ' ' -f 1)"
head -c "$bytes" /dev/urandom >/tmp/device.out
echo "sent $(sha256sum /tmp/device.out | cut -d ' ' -f 1)"
timeout 20 nc -w 5 "$host" "$from_guest" </tmp/device.out || { echo "$host, port $from_guest, did not take all" >&2; exit 1; }
counted "$interface" after
rm /tmp/device.fifo /tmp/device.got /tmp/device.out
