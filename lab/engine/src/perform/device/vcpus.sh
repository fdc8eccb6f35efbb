online() { xl vcpu-list "$domain" | awk 'NR > 1 && $4 != "-" { n++ } END { print n + 0 }'; }
n=0
while is=$(online); [ "$is" != "$vcpus" ] && [ $n -lt 100 ]; do
	n=$((n + 1))
	sleep 0.1
done
echo "xl-online $is"
