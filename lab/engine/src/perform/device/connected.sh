find_device
n=0
while :; do
	b=$(xenstore-read "$back/state" 2>/dev/null) f=$(xenstore-read "$front/state" 2>/dev/null)
	n=$((n + 1))
	[ "$b$f" = 44 ] || [ $n -gt 100 ] && break
	sleep 0.1
done
echo "backend-state $b"
echo "frontend-state $f"
