memory() { xl list "$domain" | awk 'NR == 2 { print $3 }'; }
echo "xl-before $(memory)"
xl mem-set "$domain" "${mib}m" >&2 || exit
n=0
while is=$(memory); [ "$is" != "$mib" ] && [ $n -lt 100 ]; do
	n=$((n + 1))
	sleep 0.1
done
echo "xl-after $is"
