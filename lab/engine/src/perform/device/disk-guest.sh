# Past the guest's own memory of what is on the disk, both ways.
digest() { sha256sum "$1" | cut -d ' ' -f 1; }
blocks=$((bytes / 4096))
dd if="/dev/$disk" of=/tmp/device.in bs=4096 skip=16 count=$blocks iflag=direct || exit
echo "read $(digest /tmp/device.in)"
head -c "$bytes" /dev/urandom >/tmp/device.out
echo "wrote $(digest /tmp/device.out)"
dd if=/tmp/device.out of="/dev/$disk" bs=4096 seek=128 oflag=direct conv=fsync || exit
dd if="/dev/$disk" of=/tmp/device.in bs=4096 skip=128 count=$blocks iflag=direct || exit
echo "read-back $(digest /tmp/device.in)"
rm /tmp/device.in /tmp/device.out
