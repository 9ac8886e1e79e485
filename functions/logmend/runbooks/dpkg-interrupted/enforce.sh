#!/bin/sh
# 103: busy
{
set -e
cd "${LOGMEND_ROOT:-}/"
n=dpkg-interrupted
f=var/lib/logmend/$n
u=logmend-$n
end() { echo $1 | tee $f.out; exit ${2-100}; }
mkdir -p ${f%/*}
exec 9>$f.lock
timeout 60 flock 9
case $(timeout 9 systemctl is-active $u) in activ* | deact*) end changed=no ;; esac
i=$(stat -c %i var/lib/dpkg/lock-frontend)
! grep -q "POSIX .*:$i " proc/locks || end lock=taken 103
b=$(timeout 20 dpkg-query -Wf '${db:Status-Status} ${Package}\n' | sed -n /^[hut]/p; find var/lib/dpkg/updates -name '[0-9]*')
[ "$b" ] || end changed=no
p=$(timeout 20 dpkg-query -Wf '${Conffiles}\n' | while read -r c m _; do
[ ! -e .$c.dpkg-new ] || echo "$m $(md5sum <.$c) $(md5sum <.$c.dpkg-new)"
done | awk '$2!=$4&&$2!=$1&&$4!=$1')
[ ! "$p" ] || end reason=conffile_prompt 102
echo "$b" >$f.before
echo mark=$1 >$f.mark
timeout 9 systemctl reset-failed $u 2>&1 || :
timeout 30 systemd-run -u $u sh -ec 'exec >$0.try 2>&1
DEBIAN_FRONTEND=noninteractive dpkg --configure -a
mv $0.try $0.log' $PWD/$f
end changed=yes
} </dev/null
