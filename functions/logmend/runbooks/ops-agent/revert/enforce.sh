#!/bin/sh
# 100: as before us, or unit logmend-ops-agent is at work; 102: leave alone
{
set -e
cd "${LOGMEND_ROOT:-}/"
u=logmend-ops-agent
f=var/lib/logmend/ops-agent
end() {
  echo "$2" | tee $f.out
  exit "$1"
}
[ -e $f.state ] || [ -e $f.reverted ] || {
  echo reason=no_previous_state
  exit 102
}
umask 022
exec 9>$f.lock
timeout 60 flock 9
[ -e $f.state ] || end 100 changed=no
echo "mark=$1" >$f.mark
timeout 9 systemctl reset-failed $u 2>/dev/null || :
# Fails while that unit is at work: nothing is removed under an installation. A record with "repo=" and nothing after
# it says that the repository file came with us; an older record says nothing, and then the file stays.
timeout 30 systemd-run --unit=$u sh -ec 'exec >"$0.undo" 2>&1
p=google-cloud-ops-agent
case $(cat "$0.state") in
  *not-found*)
    if command -v apt-get; then apt-get -y remove $p
    elif command -v zypper; then zypper -n remove $p
    else yum -y remove $p; fi
    if grep -qx repo= "$0.state"; then
      rm -f "$1/etc/apt/sources.list.d/$p.list" "$1/etc/yum.repos.d/$p.repo" "$1/etc/zypp/repos.d/$p.repo"
    fi
    rm -f "$0.sh"
    ;;
  *ActiveState=active*) ;;
  *=enabled*) timeout 300 systemctl stop $p ;;
  *) timeout 300 systemctl disable --now $p ;;
esac
mv "$0.state" "$0.reverted"
mv "$0.undo" "$0.log"' "$PWD/$f" "${PWD%/}"
end 100 changed=yes
} </dev/null
