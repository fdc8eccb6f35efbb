[ $is = yes ] || { echo "there is no network interface with the address $mac" >&2; exit 1; }
ip addr flush dev "$interface"
ip addr add "$address/16" dev "$interface" && ip link set "$interface" up || exit
ping -c 3 -w 6 "$host" >/tmp/ping || { echo "$host does not answer to ping from $address" >&2; exit 1; }
counted "$interface" guest before
mkfifo /tmp/fifo
timeout 20 nc -w 5 "$host" "$to_guest" <>/tmp/fifo >/tmp/got || { echo "nothing came whole from $host, port $to_guest" >&2; exit 1; }
echo "guest-got $(sha256sum /tmp/got | cut -d ' ' -f 1)"
head -c "$bytes" /dev/urandom >/tmp/out
echo "guest-sent $(sha256sum /tmp/out | cut -d ' ' -f 1)"
timeout 20 nc -w 5 "$host" "$from_guest" </tmp/out || { echo "$host, port $from_guest, did not take all" >&2; exit 1; }
counted "$interface" guest after
rm /tmp/fifo /tmp/got /tmp/out
