# Unpacks what xenlab tells this boot, to /xenlab: its nonce, the keys of this boot, the shell on the lab's ports. It comes on a disk of the
# serial number `xenlab`. Where there is none this system runs elsewhere, and nothing is done.

for serial in /sys/block/*/serial; do
	if [ -e "$serial" ] && [ "$(cat "$serial")" = xenlab ]; then
		disk=${serial%/serial}
		tar --extract --directory=/ --file="/dev/${disk##*/}" xenlab
		if [ -c /dev/hvc0 ]; then
			# On a line of its own: systemd leaves the cursor behind control sequences.
			printf '\nxenlab: init %s\n' "$(cat /xenlab/nonce)" >/dev/hvc0
		fi
		exit 0
	fi
done
echo "no disk of xenlab's: this system runs elsewhere"
