# Past the guest's own memory of what is on the disk, both ways.
digest() { sha256sum "$1" | cut -d ' ' -f 1; }
blocks=$((bytes / 4096))
dd if="/dev/$disk" of=/tmp/in bs=4096 skip=16 count=$blocks iflag=direct || exit
echo "guest-read $(digest /tmp/in)"
head -c "$bytes" /dev/urandom >/tmp/out
echo "guest-wrote $(digest /tmp/out)"
dd if=/tmp/out of="/dev/$disk" bs=4096 seek=128 oflag=direct conv=fsync || exit
dd if="/dev/$disk" of=/tmp/in bs=4096 skip=128 count=$blocks iflag=direct || exit
echo "guest-read-back $(digest /tmp/in)"
rm /tmp/in /tmp/out
