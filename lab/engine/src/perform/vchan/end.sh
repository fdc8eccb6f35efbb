# Waits until this end is gone; `end` says what is done for that, if anything.
cd "$folder" || exit
case $end in
kill) read -r pid <pid && kill -9 "$pid" || exit ;;
close) rm hold || exit ;;
esac
begin
while [ ! -e status ] && within; do sleep 0.1; done
[ -e status ] && echo "status $(cat status)"
echo "waited $seconds"
tail -n 8 err | sed 's/^/stderr /'
