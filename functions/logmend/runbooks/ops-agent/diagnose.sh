#!/bin/sh
# Names what keeps the Ops Agent from being installed, or from working: of several causes, the one that stops first.
# Changes nothing. 100: it came to its end, whatever the cause. managed_by_policy is a guard's word, not this script's.
{
LC_ALL=C LANGUAGE=
export LC_ALL LANGUAGE
r=${LOGMEND_ROOT:-}
p=google-cloud-ops-agent
f=$r/var/lib/logmend/ops-agent
root=''
[ "$(id -u)" != 0 ] || root=yes

say() {
  printf '%s' "$*" | tr -s '[:space:][:cntrl:]' ' ' | sed 's|//[^/ ]*@|//|g;s/^/evidence=/' | cut -c 1-239
}
named() {
  echo "cause=$1"
  echo "concerns=$2"
  line 'it is not the cause'
  exit 100
}
unknown() {
  echo cause=unknown
  echo "reason=$1"
  line 'nothing else was found, and no way is known by which it would keep the agent out'
  exit 100
}
journal() {
  timeout 9 journalctl -q --no-pager -o cat "$@" 2>/dev/null
}
# Whether the line about workload certificates is logged here, and that it matters, or does not, for the agent.
line() {
  x='workload certificates may not be configured|No workload identities found'
  if [ "$(journal -n 1 _PID=1)" ]; then
    n='the log of the last day'
    w=$(journal --since -1d SYSLOG_IDENTIFIER=gce_workload_cert_refresh | grep -m 1 -E "$x")
  elif [ -r "$r/var/log/syslog" ]; then
    n='the last 9999 lines of var/log/syslog'
    w=$(timeout 9 tail -n 9999 "$r/var/log/syslog" | grep -m 1 -E "$x")
  else
    say "line: not_readable without root; its timer is $(of gce-workload-cert-refresh.timer ActiveState)"
    return
  fi
  if [ "$w" ]; then say "line: found in this VM's log; $1"; else say "line: not found in $n"; fi
}
has() {
  echo "$packages" | grep -q "^$1 .*ok installed"
}
os() {
  sed -n "s/^$1=//p" "$r/etc/os-release" 2>/dev/null | tr -d "\"'" | head -n 1
}

# The metadata server says which VM this is, and what time it is.
h=$(timeout 5 curl -q -fsix '' -HMetadata-Flavor:Google 169.254.169.254/computeMetadata/v1/instance/id | tr -d '\r')
i=$(echo "$h" | tail -n 1)
echo "instance_id=${i%%[!0-9]*}"

units=''
show() {
  units=$(timeout 9 systemctl show -p Id -p LoadState -p ActiveState -p SubState -p Result -p ExecMainStatus \
    -p NRestarts -p ActiveEnterTimestampMonotonic \
    $p.service $p-fluent-bit.service $p-opentelemetry-collector.service \
    logmend-ops-agent.service gce-workload-cert-refresh.timer 2>/dev/null)
}
of() {
  echo "$units" | awk -v RS= -v u="$1" -v k="$2=" '
    index("\n" $0 "\n", "\nId=" u "\n") {
      n = split($0, l, "\n")
      for (i = 1; i <= n; i++) if (index(l[i], k) == 1) print substr(l[i], length(k) + 1)
    }'
}
show
if ! [ "$(of $p.service LoadState)" ]; then
  say 'systemd: systemctl did not answer'
  unknown not_readable
fi
case $(of logmend-ops-agent.service ActiveState) in
  activ* | deactiv*)
    read -r up _ <"$r/proc/uptime"
    since=$(of logmend-ops-agent.service ActiveEnterTimestampMonotonic)
    [ "${since:-0}" != 0 ] || unknown at_work
    n=$((${up%.*} - ${since%??????}))
    say "logmend has been installing or starting the agent for $n seconds"
    # As long as runbook.yaml gives it; what takes longer waits for something.
    [ $n -ge 900 ] || unknown at_work
    ;;
esac
silent() {
  say "packages: $1 does not answer"
  unknown not_readable
}
# Asked for at once: what hangs is waited for once.
all="$p stackdriver-agent google-fluentd lsb-release apt-transport-https ca-certificates gnupg"
# shellcheck disable=SC2086
packages=$(timeout 9 dpkg-query -Wf '${Package} ${Status}\n' $all 2>/dev/null)
[ $? != 124 ] || silent dpkg-query
# shellcheck disable=SC2086
[ "$packages" ] || packages=$(timeout 9 rpm -q --qf '%{NAME} ok installed\n' $all 2>/dev/null)
[ $? != 124 ] || silent rpm
installed=''
if has $p; then installed=yes; fi
if [ -d "$r/var/lib/google-guest-agent/agent_state/plugins/ops-agent-plugin" ] && [ ! "$installed" ]; then
  say 'var/lib/google-guest-agent/agent_state/plugins/ops-agent-plugin is there'
  named managed_by_plugin fleet
fi

# In KiB, for root: what a file system keeps back for root counts as free.
least=1024
[ "$installed" ] || least=51200
d=''
for n in '' usr opt tmp var var/cache/apt var/lib/dpkg var/lib/logmend "var/log/$p" "var/lib/$p"; do
  [ ! -d "$r/$n" ] || d="$d $r/$n"
done
# What is read-only is as full as it was made: nothing is said by that.
ro=" $(awk '{o[$2] = $4} END {for (m in o) if (o[m] ~ /^ro(,|$)/) print m}' "$r/proc/mounts" 2>/dev/null | tr '\n' ' ')"
# shellcheck disable=SC2086
for n in $(timeout 9 df -Pk $d 2>/dev/null | awk -v least=$least -v ro="$ro" '
  index(ro, " " $6 " ") {
    print $6 " is read-only"
    next
  }
  NR > 1 && $2 - $3 < ($6 ~ "tmp$" ? 1024 : least) {
    print $6 ":" $2 - $3 " KiB are free"
  }' | tr ' ' _ | sort -u | head -n 3); do
  say "disk: $n" | tr _ ' '
  case $n in *read-only) readonly=yes ;; *) full=yes ;; esac
done
# shellcheck disable=SC2086
for n in $(timeout 9 df -Pi $d 2>/dev/null | awk -v ro="$ro" '!index(ro, " " $6 " ") && NR > 1 && $2 > 0 && $4 ~ /^[0-9]+$/ && $4 < 64 {print $6}' |
  sort -u | head -n 3); do
  say "disk: no inodes are left on $n"
  full=yes
done
if [ "${full:-}" ]; then
  # The file that agent-log-disk cuts, as it judges it: of its own, on a full file system, by the room that it takes.
  n=$r/var/log/$p/subagents/logging-module.log
  case $(timeout 9 df -P "$n" 2>/dev/null)/$(stat -c %f/%h "$n" 2>/dev/null) in
    *' 100% '*/8???/1)
      b=$(stat -c %b "$n" 2>/dev/null)
      if [ "${b:-0}" -gt $((@log_megabytes@ * 2048)) ]; then
        say "disk: the agent's own log, ${n#"$r"}, takes $((b / 2048)) MiB"
        named agent_log_full logmend
      fi
      ;;
  esac
  n=$(timeout 9 du -sk "$r/var/log/$p" 2>/dev/null | sed 's/[^0-9].*//')
  [ "${n:-0}" -lt 10240 ] || say "disk: the agent's own logs take $n KiB"
  named disk_full owner
fi

if [ "$installed" ]; then
  if [ "$(of $p.service LoadState)" = masked ]; then
    say "unit: $p.service is masked"
    named masked_by_others owner
  fi
  # The parent does nothing but validate the configuration.
  if [ "$(of $p.service ActiveState)" = failed ] && [ "$(of $p.service Result)" = exit-code ]; then
    w=''
    if [ "$root" ]; then
      w=$(journal -n 20 _SYSTEMD_UNIT=$p.service)
    elif [ -r "$r/etc/$p/config.yaml" ]; then
      w=$(timeout 20 "$r/opt/$p/libexec/google_cloud_ops_agent_engine" -in "$r/etc/$p/config.yaml" 2>&1)
    else
      say "not_readable: etc/$p/config.yaml"
    fi
    w=$(echo "$w" | grep -i 'config file is not valid' | tail -n 1)
    if [ "$w" ]; then
      say "configuration: $w"
      named config_invalid owner
    fi
  fi
  for n in fluent-bit:20202:4EEA opentelemetry-collector:20201:4EE9; do
    u=$p-${n%%:*}.service
    a=$(of "$u" ActiveState)
    if [ "$(of "$u" LoadState)" = masked ]; then
      say "unit: $u is masked"
      named masked_by_others owner
    fi
    if [ "$a" = active ] && [ "$(of "$u" NRestarts)" -gt 0 ] 2>/dev/null; then
      read -r up _ <"$r/proc/uptime"
      since=$(of "$u" ActiveEnterTimestampMonotonic)
      [ $((${up%.*} - ${since%??????})) -ge @settle@ ] || a=restarting
    fi
    case $a in
      active | inactive) continue ;;
    esac
    down="${down:-} $u"
    port=${n#*:}
    held=''
    # While it runs itself, it may hold it.
    [ "$a" = restarting ] || held=$(awk -v port=":${port#*:}$" '$4 == "0A" && $2 ~ port {print $8 " " $10; exit}' \
      "$r/proc/net/tcp" "$r/proc/net/tcp6" 2>/dev/null)
    show
    if [ "$held" ] && [ "$(of "$u" ActiveState)" = "$a" ]; then
      who="uid ${held% *}"
      for pid in "$r/proc"/[0-9]*; do
        [ "$root" ] || break
        case $(ls -l "$pid/fd" 2>/dev/null) in
          *"socket:[${held#* }]"*) who="$who, process ${pid##*/} ($(cat "$pid/comm"))" ;;
        esac
      done
      say "port: ${port%:*}, which $u needs, is held by $who"
      named port_taken owner
    fi
    if [ "$(of "$u" Result)" = oom-kill ]; then
      say "memory: $u was killed for memory"
      named killed_for_memory owner
    fi
    w=''
    # One that runs again does not say any more what it died of: it was within the last minutes.
    case $root$(of "$u" Result) in
      yessignal) n=-1d ;;
      yessuccess) n=-5min ;;
      *) n='' ;;
    esac
    [ ! "$n" ] || w=$(journal -k --since "$n" | grep -E 'Killed process [0-9]+ .(fluent-bit|otelopscol)[)]' | tail -n 1)
    if [ "$w" ]; then
      say "memory: $w"
      named killed_for_memory owner
    fi
    say "unit: $u is $a, Result=$(of "$u" Result) ExecMainStatus=$(of "$u" ExecMainStatus)"
    [ ! "$root" ] || say "journal: $(journal -n 3 "_SYSTEMD_UNIT=$u")"
  done
  if [ "${down:-}" ]; then
    [ ! "$root" ] || unknown no_cause_fits
    say "not_readable: what$down said, and what the kernel killed"
    unknown not_readable
  fi
  case $(of $p.service ActiveState)/$(of $p-fluent-bit.service ActiveState)/$(of $p-opentelemetry-collector.service ActiveState) in
    active/active/active) ;;
    activating/* | deactivating/* | reloading/*)
      say "unit: $p.service is $(of $p.service ActiveState): it has not come to its end"
      unknown no_cause_fits
      ;;
    *failed*)
      say "unit: $p.service failed, Result=$(of $p.service Result)"
      if [ "$root" ]; then
        say "journal: $(journal -n 3 _SYSTEMD_UNIT=$p.service)"
        unknown no_cause_fits
      fi
      unknown not_readable
      ;;
    *inactive*)
      say 'unit: not running, and none of them failed: it was stopped'
      named stopped logmend
      ;;
    *) unknown no_cause_fits ;;
  esac
else
  for n in stackdriver-agent google-fluentd; do
    if has $n; then
      say "package: $n is installed, with which $p conflicts"
      named legacy_agent_present owner
    fi
  done
  # Google's script knows these three families, by these files.
  family=''
  case $(os ID) in
    debian | ubuntu) family=apt ;;
    rhel | centos) family=el ;;
    sles | opensuse-leap) family=sles ;;
    *)
      if [ -f "$r/etc/debian_version" ]; then family=apt
      elif [ -f "$r/etc/redhat-release" ]; then family=el
      elif [ -f "$r/etc/SuSE-release" ]; then family=sles; fi
      ;;
  esac
  if [ ! "$family" ]; then
    say "system: $(os PRETTY_NAME) is of no family that Google's script installs on"
    named os_unsupported owner
  fi
  if [ $family = apt ]; then
    for n in lock-frontend lock; do
      # shellcheck disable=SC2046,SC2012
      set -- $(ls -i "$r/var/lib/dpkg/$n" 2>/dev/null)
      for pid in $(awk -v i="${1:-none}" '$2 == "POSIX" && $4 == "WRITE" && $6 ~ ":" i "$" {print $5}' "$r/proc/locks"); do
        c=$(cat "$r/proc/$pid/comm" 2>/dev/null)
        [ "$c" ] || continue
        read -r up _ <"$r/proc/uptime"
        # shellcheck disable=SC2046
        set -- $(sed 's/.*) //' "$r/proc/$pid/stat" 2>/dev/null)
        [ "${20:-}" ] || continue
        say "lock: var/lib/dpkg/$n is held by process $pid ($c) for $((${up%.*} - ${20} / 100)) seconds"
        named packages_locked owner
      done
    done
    n=$(find "$r/var/lib/dpkg/updates" -name '[0-9]*' 2>/dev/null | head -n 1)
    w=$(awk -v RS= '/\nStatus: [a-z-]+ [a-z-]+ (half-configured|half-installed|unpacked)\n/ {print $2}' \
      "$r/var/lib/dpkg/status" | head -n 3)
    if [ "$w" ] && grep -qE '^dpkg: error processing package' "$f.try" 2>/dev/null; then
      say "dpkg: not configured: $w"
      w=$(grep -aE 'error processing package' -A 2 "$f.try" | head -n 3)
      say "last attempt: $w"
      named package_broken owner
    fi
    if [ "$n$w" ]; then
      say "dpkg: it was interrupted;${w:+ not configured: $w}${n:+ var/lib/dpkg/updates is not empty}"
      named packages_interrupted logmend
    fi
  fi
fi

off=$(echo "$h" | sed -n 's/^[Dd]ate: [A-Z][a-z]*, *//p' | awk -v now="$(date +%s)" '{
  m = (index("JanFebMarAprMayJunJulAugSepOctNovDec", $2) + 2) / 3
  y = $3 - (m < 3)
  days = 365 * y + int(y / 4) - int(y / 100) + int(y / 400) + int(30.6 * (m + (m < 3 ? 9 : -3)) + 0.4) + $1 - 719469
  split($4, t, ":")
  off = now - (days * 86400 + t[1] * 3600 + t[2] * 60 + t[3])
  if (m >= 1 && (off > 86400 || off < -86400)) printf "%d", off
}')
if [ "$off" ]; then
  say "clock: $off seconds off the metadata server's"
  named clock_off owner
fi

# The agent itself asks each API when it starts; what it said last counts.
codes() {
  timeout 9 tail -n 400 "$r/var/log/$p/health-checks.log" 2>/dev/null | awk '
    /(Ports|Network|API) Check.*Result: / {
      c = /Ports Check/ ? "ports" : /Network Check/ ? "network" : "api"
      if (c == "ports" && last != "ports") said = ""
      last = c
      # What it only warns of, such as a host that only installing needs, keeps nothing from working.
      if (/Result: ERROR/ && /lookup [^ ]*googleapis[.]com.*(no such host|server misbehaving|i\/o timeout)/)
        said = said " that a name cannot be resolved"
      if (/Result: FAIL/ && match($0, /Error code: [A-Za-z]+/)) said = said " " substr($0, RSTART + 12, RLENGTH - 12)
    }
    END {print said}'
}
if [ "$installed" ]; then
  s=$(timeout 5 curl -q -sx '' -w '\n%{http_code}' -HMetadata-Flavor:Google \
    169.254.169.254/computeMetadata/v1/instance/service-accounts/default/scopes)
  case $s in
    *404)
      say 'scopes: the VM has no service account'
      named scope_missing owner
      ;;
    *cloud-platform*200) ;;
    *200)
      w=''
      echo "$s" | grep -qxE '.*auth/logging\.(write|admin)' || w=logging.write
      echo "$s" | grep -qxE '.*auth/monitoring(\.write|\.admin)?' || w="$w monitoring.write"
      if [ "$w" ]; then
        say "scopes: the VM lacks $w"
        named scope_missing owner
      fi
      ;;
  esac
  w=$(codes)
  [ ! "$w" ] || say "health checks: the agent reported$w"
  case $w in
    *resolved*) named dns_failing fleet ;;
    *LogApiConn* | *MonApiConn* | *TelApiConn*) named no_egress fleet ;;
    *ScopeErr*) named scope_missing owner ;;
    *DisabledErr*) named api_disabled owner ;;
    *PermissionErr*) named permission_denied owner ;;
  esac
  say 'unit: all of them run'
  unknown no_cause_fits
fi

# What the installer would do, in its order. It has systemd's environment, not a login's.
w=$(timeout 9 systemctl show-environment 2>/dev/null)
# The first of these that is set, as curl takes them (its lib/url.c).
for n in https_proxy HTTPS_PROXY all_proxy ALL_PROXY; do
  proxy=$(echo "$w" | sed -n "s/^$n=//p")
  [ ! "$proxy" ] || break
done
fetch() {
  if [ "$proxy" ]; then set -- -x "$proxy" "$@"; else set -- -x '' "$@"; fi
  code=$(timeout 15 curl -q -sSm 12 --connect-timeout 5 -o /dev/null -w '%{http_code}' "$@" 2>/dev/null)
  rc=$?
}
reach() {
  fetch "$1"
  host=${1#*//}
  host=${host%%/*}
  case $rc in
    0)
      [ "$code" != 200 ] || return
      say "network: $1 answers $code"
      unknown no_cause_fits
      ;;
    5 | 6)
      say "network: ${proxy:+proxy of }$host cannot be resolved"
      named dns_failing fleet
      ;;
    7 | 28 | 124)
      say "network: no answer from $host, curl ends with $rc${proxy:+ through the proxy that systemd has}"
      n=$(grep -rhoiE '(Acquire::https?::Proxy|^(export )?https?_proxy=).*' "$r/etc/environment" \
        "$r/etc/profile.d" "$r/etc/apt/apt.conf" "$r/etc/apt/apt.conf.d" 2>/dev/null | head -n 1)
      if [ "$n" ] && [ ! "$proxy" ]; then
        say "proxy: set in etc, and not for systemd's services: $n"
        named proxy_not_set owner
      fi
      named no_egress fleet
      ;;
    *)
      say "network: curl ends with $rc for $host"
      unknown no_cause_fits
      ;;
  esac
}
command -v curl >/dev/null || unknown no_cause_fits
reach "@repo_url@/add-$p-repo.sh"
reach "@packages_url@/apt/doc/apt-key.gpg"

if [ $family = apt ]; then
  missing=''
  for n in lsb-release apt-transport-https ca-certificates gnupg; do has $n || missing="$missing $n"; done
  gone=''
  if [ "$missing" ]; then
    # One line each of "URI SUITE", at most six, from both of apt's formats.
    for n in $(cat "$r/etc/apt/sources.list" "$r/etc/apt/sources.list.d"/*.list 2>/dev/null |
      sed -n 's/^deb  *//p' | sed 's/^.*] *//' | awk '$1 ~ /^http/ {print $1 "|" $2}' | grep -v "|$p-" | sort -u | head -n 6) \
      $(for l in "$r/etc/apt/sources.list.d"/*.sources; do
        awk -v RS= '{
          split("", v)
          k = ""
          n = split($0, l, "\n")
          for (i = 1; i <= n; i++) {
            if (l[i] ~ /^#/) continue
            if (l[i] ~ /^[^ \t]/) {
              k = tolower(l[i])
              sub(/[ \t]*:.*/, "", k)
              sub(/^[^:]*:/, "", l[i])
            }
            v[k] = v[k] " " l[i]
          }
          if (tolower(v["enabled"]) ~ /^[ \t]*(no|false|without|off|disable|0)[ \t]*$/) next
          n = split(v["uris"], u)
          m = split(v["suites"], s)
          for (i = 1; i <= n; i++) if (u[i] ~ /^http/) for (j = 1; j <= m; j++) print u[i] "|" s[j]
        }' "$l"
      done 2>/dev/null | sort -u | head -n 6); do
      u=${n%|*} s=${n#*|}
      case $s in
        */) u=${u%/}/${s%/} ;;
        *) u=${u%/}/dists/$s ;;
      esac
      fetch "$u/InRelease"
      case $rc/$code in
        0/404 | 0/410) fetch "$u/Release" ;;
      esac
      case $rc/$code in
        0/404 | 0/410 | 6/*)
          gone="$u answers $code"
          break
          ;;
      esac
    done
    [ ! "$gone" ] || say "apt: the installer first fetches$missing, from every source"
  fi
  if [ "$gone" ]; then
    say "apt: $gone"
    # Those that the runbook of that name knows to be gone.
    case $gone in
      http*://packages.cloud.google.com/apt/dists/google-cloud-[lmo]*40[0-9] | \
        http*://*.debian.org/debian/dists/*-backports*40[0-9])
        named apt_source_gone logmend
        ;;
    esac
    named apt_source_dead owner
  fi
fi

suffix=all
echo '@version@' | grep -qF '.*.*' && suffix=$(echo '@version@' | cut -d . -f 1)
n=$(os VERSION_CODENAME)
[ "$n" ] || [ $family != apt ] || n=$(timeout 9 lsb_release -sc 2>/dev/null)
[ $family = apt ] || n=$(os VERSION_ID)
if [ ! "$n" ]; then
  say 'system: it does not say which release it is'
  unknown no_cause_fits
fi
case $family in
  el | sles) u=yum/repos/$p-$family${n%%.*}-$(uname -m)-$suffix/repodata/repomd.xml ;;
  *) u=apt/dists/$p-$n-$suffix/Release ;;
esac
fetch "@packages_url@/$u"
if [ "$rc/$code" = 0/404 ]; then
  say "system: the repository has nothing for $(os PRETTY_NAME): $u answers 404"
  named os_unsupported owner
fi
[ "$code" = 200 ] || unknown no_cause_fits

k=$(sed -n 's/.*signed-by=\([^] ]*\).*/\1/p' "$r/etc/apt/sources.list.d/$p.list" 2>/dev/null | head -n 1)
if [ "$k" ] && [ ! -s "$r$k" ]; then
  say "key: $k is missing or empty, and is not fetched again while the source's file is there"
  named signing_key owner
fi
if [ "$(find "$f.try" -mmin -1440 2>/dev/null)" ]; then
  w=$(grep -aoE '(NO_PUBKEY|EXPKEYSIG|KEYEXPIRED|REVKEYSIG|BADSIG)( [0-9A-F]+)?' "$f.try" | tail -n 1)
  if [ "$w" ]; then
    say "last attempt, within a day: $w"
    named signing_key owner
  fi
fi
if [ -e "$f.try" ]; then
  w=$(grep -aE '^ *(E:|W:|Err|curl:|dpkg:|rpm:|error:|Problem:)' "$f.try" | tail -n 3)
  say "last attempt: $w"
  unknown no_cause_fits
fi
[ ! "${readonly:-}" ] || unknown no_cause_fits
say 'package: absent, and nothing was found that would keep it out'
named not_installed logmend
} </dev/null
