n=0
while is=no; [ -e "/sys/block/$disk" ] && is=yes; [ $is != $wanted ] && [ $n -lt 100 ]; do
	n=$((n + 1))
	usleep 100000
done
echo "there $is"
[ $is = no ] || echo "sectors $(cat "/sys/block/$disk/size")"
