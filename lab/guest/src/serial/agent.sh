say(){ printf '~%s:%s:%s~\n' "$T" "$1" "${#1}";}
l=" $(busybox --list 2>/dev/null|while read -r c;do printf '%s ' "$c";done)"
for c in base64 od cksum sha256sum head tail wc mkfifo setsid mkdir rm;do case $l in *" $c "*)eval "b_$c='busybox $c'";;*)if command -v $c >/dev/null 2>&1;then eval "b_$c=$c";else eval "b_$c=";fi;;esac;done
E=b64;Q=57;enc="$b_base64";[ "$enc" ]||{ E=hex;Q=16;enc="$b_od -An -v -tx1";}
C=none;[ "$b_sha256sum" ]&&C=sha256;[ "$b_cksum" ]&&C=cksum
W=;for d in /run /dev/shm /tmp /var/tmp;do W=$d/xenlab-$T;$b_mkdir -m 700 $W 2>/dev/null&&break;W=;done
sum(){ case $C in cksum)$b_cksum;;sha256)read -r h _ <<X
$($b_sha256sum)
X
echo $h;;*)echo 0;;esac;}
grab(){ $b_head -c $L <&3 >$W/$1 & echo $! >$W/$1.h;wait $!;q=$?;z=0;c=0;w=
[ -s $W/$1 ]&&{ z=$($b_wc -c <$W/$1);c=$(sum <$W/$1);c=${c%% *};z=$((z));};t=$z
[ $z -lt $L ]||{ $b_wc -c <&3 >$W/$1.w & echo $! >$W/$1.h;wait $!;read -r w <$W/$1.w;t=$((z+${w:-1}));}
[ $q -lt 129 ]||t=$((t+1));echo "$c:$z:$t" >$W/$1.s;}
lines(){ n=$3;$b_tail -c +$((n*Q+1)) $W/$2|$enc|while read -r v;do [ $n -gt $4 ]&&break;say "D:$1:$2:$n:$v";n=$((n+1));done;}
run(){ if [ "$D" ];then S=$(echo $B|$D);else S=$(printf "$B");fi
v=$(printf %s "$S"|sum);if [ "${v%% *}" != "$2" ];then v="E:$1:bad:0:0:0:0:0:0:0:0";else
grab o 3<$W/po& ho=$!
grab e 3<$W/pe& he=$!
$b_setsid /bin/sh -c "trap 'echo>$W/m' 0;$S" sh </dev/null >$W/po 2>$W/pe& p=$!
echo $p >$W/pid;wait $p;s=$?;say "R:$1:$s";wait $ho;wait $he
m=0;[ -s $W/m ]&&m=1;IFS=: read -r oc oz ot <$W/o.s;IFS=: read -r ec ez et <$W/e.s
v="E:$1:$s:$m:$oc:$oz:$ot:$ec:$ez:$et:$((s*7+m*3+oz*5+ot*11+ez*13+et*17))"
[ -s $W/o ]&&lines $1 o 0 $I;[ -s $W/e ]&&lines $1 e 0 $I;fi;echo "$v" >$W/end;say "$v";}
K=;R=;N=0;if [ ! "$W" ]||! $b_mkfifo $W/po $W/pe;then say "H:none:none:";else
say "H:$E:$C:${D:+d}"
while read -r l;do p=${l#*:};[ "$l" ]||continue
[ "${l%%:*}" = ${#p} ]||{ say N;continue;}
set -- $p
case $1 in
h)say "H:$E:$C:${D:+d}";;
d)[ "$2" = "$K" ]||{ K=$2;N=0;B=;};[ "$3" = $N ]&&{ B=$B$4;N=$((N+1));};say "A:$2:$N";;
x)[ "$2" = "$R" ]||{ R=$2;L=$4;I=$5;for f in end m pid;do :>$W/$f;done;run $2 $3&};say "X:$2";;
e)v=W:$R;[ -s $W/end ]&&read -r v <$W/end;say "$v";;
g)lines $R $2 $3 $4;say "G:$2:$3:$4";;
c){ read -r h <$W/pid&&kill -9 -$h||for f in o e;do read -r h <$W/$f.h&&kill -9 $h;done;} 2>/dev/null;say "C:$R";;
k){ read -r h <$W/pid&&{ kill -9 -$h||kill -9 $h;};} 2>/dev/null;say "K:$R";;
q)$b_rm -rf $W;say Q;break;;
esac;done;fi
