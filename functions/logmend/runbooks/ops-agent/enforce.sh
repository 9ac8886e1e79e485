#!/bin/sh
# 100: running, or unit logmend-ops-agent at work; 102: leave alone; 103: busy
{
set -e
cd "${LOGMEND_ROOT:-}/"
u=logmend-ops-agent
f=var/lib/logmend/ops-agent
p=google-cloud-ops-agent
end() {
  echo "$1" | tee $f.out
  exit "${2-100}"
}
umask 022
mkdir -p ${f%/*}
exec 9>$f.lock
timeout 60 flock 9
w=$(timeout 9 systemctl show -p ActiveState $u)
case $w in *=activ*) end changed=no ;; esac
# Up, and never started again by systemd: somebody else was quicker. What has been started again is settled below.
up=yes
for n in '' -fluent-bit -opentelemetry-collector -diagnostics; do
  s=$(timeout 9 systemctl show -p LoadState -p ActiveState -p NRestarts $p$n)
  case $n/$s in
    -diagnostics/*=not-found* | -diagnostics/*=masked*) ;;
    *NRestarts=[1-9]*) up=no ;;
    *ActiveState=active*) ;;
    *) up=no ;;
  esac
done
[ $up = no ] || end changed=no
if [ -d var/lib/google-guest-agent/agent_state/plugins/ops-agent-plugin ]; then
  end reason=managed_by_plugin 102
fi
# Somebody else's apt or dpkg is at work: /proc/locks has every lock, by inode.
for l in var/lib/dpkg/lock-frontend var/lib/dpkg/lock var/lib/apt/lists/lock; do
  if i=$(stat -c %i $l 2>/dev/null) && grep -q "POSIX .*:$i " proc/locks; then end "lock=$l" 103; fi
done
[ -e $f.state ] || {
  timeout 9 systemctl show -p LoadState,UnitFileState,ActiveState $p >$f.new
  # Whether the repository is ours to take away again.
  echo "repo=$(ls etc/apt/sources.list.d/$p.list etc/yum.repos.d/$p.repo etc/zypp/repos.d/$p.repo 2>/dev/null | head -n 1)" >>$f.new
  mv $f.new $f.state
}
echo "mark=$1" >$f.mark
timeout 9 systemctl reset-failed $u 2>/dev/null || :
# systemd replaces ${…} in what it is given to run, so there is none in here.
timeout 30 systemd-run --unit=$u sh -ec 'exec >"$0.try" 2>&1
p=google-cloud-ops-agent
# Packages take as long as they take, and are never cut off: those of an agent that is there are nothing to us.
# What does not answer says nothing of what is there.
silent() {
  echo "error: $1 does not answer"
  exit 1
}
case $(timeout 30 dpkg -s $p 2>/dev/null || echo "=$?") in
  *" ok installed"*) ;;
  *=124) silent dpkg ;;
  *) if command -v dpkg; then dpkg --configure -a; fi ;;
esac
s=0
timeout 30 systemctl cat $p || s=$?
[ $s != 124 ] || silent systemctl
if [ $s != 0 ]; then
  curl -m60 -fsSo "$0.sh" "@repo_url@/add-$p-repo.sh"
  bash "$0.sh" --also-install "--version=@version@"
  rm "$0.sh"
fi
timeout 90 systemctl enable $p
for n in "" -fluent-bit -opentelemetry-collector -diagnostics; do
  timeout 30 systemctl reset-failed $p$n || :
done
bad=""
# systemd does not bound the start of a oneshot.
if timeout 300 systemctl restart $p; then sleep @settle@; else bad=yes; fi
for n in "" -fluent-bit -opentelemetry-collector -diagnostics; do
  s=$(timeout 30 systemctl show -p LoadState -p ActiveState -p NRestarts -p Result $p$n)
  case $n/$s in
    -diagnostics/*=not-found* | -diagnostics/*=masked*) continue ;;
    *NRestarts=[1-9]*) ;;
    *ActiveState=active*) continue ;;
  esac
  bad=yes
  timeout 30 journalctl -q -o cat -n 2 _SYSTEMD_UNIT=$p$n.service || :
  echo $p$n $s
done
if [ "$bad" ]; then
  echo reason=still_faulty
  exit 1
fi
mv "$0.try" "$0.log"' "$PWD/$f"
end changed=yes
} </dev/null
