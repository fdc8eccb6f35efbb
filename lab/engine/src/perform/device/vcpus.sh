online() { xl vcpu-list "$domain" | awk 'NR > 1 && $4 != "-" { n++ } END { print n + 0 }'; }
begin
while is=$(online); [ "$is" != "$vcpus" ] && within; do sleep 0.1; done
echo "xl-online $is"
