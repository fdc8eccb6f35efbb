memory() { xl list "$domain" | awk 'NR == 2 { print $3 }'; }
echo "xl-before $(memory)"
xl mem-set "$domain" "${mib}m" >&2 || exit
begin
while is=$(memory); [ "$is" != "$mib" ] && within; do sleep 0.1; done
echo "xl-after $is"
