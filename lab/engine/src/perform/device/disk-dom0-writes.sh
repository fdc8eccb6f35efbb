[ -e "$image" ] || { echo "there is no $image: was the disk ever attached?" >&2; exit 1; }
head -c "$bytes" /dev/urandom >"$image.out" && dd if="$image.out" of="$image" bs=4096 seek=16 conv=notrunc 2>/dev/null || exit
echo "wrote $(sha256sum <"$image.out" | cut -d ' ' -f 1)"
rm "$image.out"
