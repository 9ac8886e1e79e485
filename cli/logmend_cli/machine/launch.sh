#!/bin/sh
# Boots one machine again and again until it is switched off. Runs in a mount and a network namespace of its own,
# so that what it sets up vanishes with its last process.
#
# usage: launch.sh NAME ROOT FOLDER [CGROUP...]     stdin: a tar of the files in which this machine differs from ROOT
set -eu
name=$1 root=$2 folder=$3
shift 3

ip link set lo up
ip address add 169.254.169.254/32 dev lo # the metadata server listens here, inside this namespace alone
echo ready                               # whoever started us now gives the namespace its link, then sends the tar

mkdir "$folder/mounts"
mount -t tmpfs -o mode=0755 "$name" "$folder/mounts"
mkdir "$folder/mounts/upper" "$folder/mounts/work" "$folder/mounts/disk"
tar -x -f - -C "$folder/mounts/upper"
mount -t overlay -o "lowerdir=$root,upperdir=$folder/mounts/upper,workdir=$folder/mounts/work" \
    "$name" "$folder/mounts/disk"

boots=0
while :; do
    boots=$((boots + 1))
    status=0
    (
        # Machines in one control group would take each other's services for their own.
        for group; do
            mkdir -p "$group/boot-$boots"
            echo 0 >"$group/boot-$boots/cgroup.procs"
        done
        exec setpriv --pdeathsig TERM systemd-nspawn --directory="$folder/mounts/disk" --machine="$name" --boot \
            --keep-unit --register=no --settings=no --link-journal=no --resolv-conf=off --timezone=off \
            --network-namespace-path=/proc/self/ns/net --console=read-only </dev/null >&2
    ) || status=$?
    next=$(cat "$folder/next" 2>/dev/null) || next=
    rm -f "$folder/next"
    case $status:$next in
    133:* | *:again) ;;            # 133 is how nspawn says that the machine asked for a reboot
    *:off) exec sleep infinity ;; # switched off: its link stays, and nobody answers
    *) exit "$status" ;;
    esac
done
