#!/bin/sh
# 100: cut, or nothing to do; 102: leave alone
{
set -e
cd "${LOGMEND_ROOT:-}/"
n=agent-log-disk
r=run/logmend/$n
f=var/lib/logmend/$n
l=var/log/google-cloud-ops-agent/subagents/logging-module.log
end() {
  mkdir -p ${f%/*} || :
  echo $1 | tee $f.out || :
  exit $2
}
other() { end reason=other_cause 102; }
umask 022
mkdir -p ${r%/*}
exec 9>$r.lock
timeout 60 flock 9
[ -e $l ] || end changed=no 100
[ -f $l ] && [ ! -L $l ] || other
# opened once, judged and cut whatever the path becomes
exec 8<$l
l=/dev/fd/8
case $(timeout 9 df -P $l) in *\ 100%\ *) ;; *) end changed=no 100 ;; esac
case $(stat -Lc %f/%h $l)$(readlink $l) in
  8???/1*/logging-module.log) ;;
  *) other ;;
esac
[ "$(stat -Lc %b $l)" -gt $((@megabytes@ * 2048)) ] || other
# kept in memory until there is room
(umask 077 && tail -c 1048576 $l >$r.tail) && echo mark=$1 >$r.mark || end reason=record_does_not_fit 102
: >$l
mkdir -p ${f%/*}
cp $r.tail $f.tail && cp $r.mark $f.mark && rm $r.tail $r.mark || :
end changed=yes 100
} </dev/null
