# Runs in namespaces of its own: a root of which nothing is the workstation's but programs, read-only, and those that
# would reach systemd, packages or the network replaced, also by their whole path. ROOT FAKES MACHINE TEXT MARK
set -e
root=$1 fakes=$2 machine=$3 text=$4 mark=$5
mount --make-rprivate /
mount -t tmpfs tmpfs "$root"
for each in usr bin sbin lib lib64 lib32 libx32; do
  if [ -L "/$each" ]; then
    cp -P "/$each" "$root/$each"
  elif [ -d "/$each" ]; then
    mkdir "$root/$each"
    mount --bind "/$each" "$root/$each"
    mount -o remount,bind,ro "$root/$each"
  fi
done
mkdir "$root/dev" "$root/etc" "$root/fakes" "$root/machine" "$root/proc" "$root/run" "$root/tmp" "$root/var"
for each in null zero urandom; do
  : >"$root/dev/$each"
  mount --bind "/dev/$each" "$root/dev/$each"
done
for each in alternatives ld.so.cache; do
  [ ! -e "/etc/$each" ] || cp -a "/etc/$each" "$root/etc/$each"
done
ln -s /proc/self/fd "$root/dev/fd"
for each in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${each%:*}" "$root/dev/${each#*:}"; done
mount -t proc proc "$root/proc"
mount --bind "$fakes" "$root/fakes"
mount -o remount,bind,ro "$root/fakes"
mount --bind "$machine" "$root/machine"
for each in "$fakes"/*; do
  for folder in usr/bin usr/sbin usr/local/bin usr/local/sbin bin sbin; do
    real=$root/$folder/${each##*/}
    if [ -e "$real" ] && ! cmp -s "$each" "$real"; then mount --bind "$each" "$real"; fi
  done
done
exec chroot "$root" /usr/bin/env -i PATH=/fakes:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C LOGMEND_ROOT=/machine \
  /bin/sh -c "$text" logmend "$mark" </dev/null
