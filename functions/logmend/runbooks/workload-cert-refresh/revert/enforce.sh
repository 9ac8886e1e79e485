#!/bin/sh
# 100: as before us; 102: leave alone
{
set -e
cd "${LOGMEND_ROOT:-}/"
n=workload-cert-refresh
f=var/lib/logmend/$n
u=gce-$n.timer
look() {
  s=$(timeout 9 systemctl show -p LoadState,UnitFileState,ActiveState $u)
}
end() {
  echo "$2" | tee $f.out
  exit "$1"
}
kept() {
  case $w in *=$1*) case $s in *=$1*) ;; *) return 1 ;; esac ;; esac
}
[ -e $f.state ] || [ -e $f.reverted ] || {
  echo reason=no_previous_state
  exit 102
}
umask 022
exec 9>$f.lock
timeout 60 flock 9
look
[ -e $f.state ] || end 100 changed=no
w=$(cat $f.state)
case $s in
  *masked*) end 102 reason=masked_by_others ;;
  *not-found*) end 102 reason=unit_absent ;;
esac
echo "mark=$1" >$f.mark
case $w in *-runtime*) r=--runtime ;; *) r=-q ;; esac
# -q: what prints nothing is not killed half way by a connection that broke (SIGPIPE)
kept enabled || timeout 60 systemctl enable -q $r $u
kept activ || timeout 60 systemctl start $u
look
kept enabled
kept activ
mv $f.state $f.reverted
end 100 changed=yes
} </dev/null
