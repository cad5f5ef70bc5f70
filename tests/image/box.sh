# Run a command in the root file system $1 as a container engine does for a pod at level `restricted`: uid 65534, the
# root read-only, no capabilities and no way to any. Wants to be started in name spaces of its own (see image.py).
set -eu
root=$1
shift
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for name in null zero urandom random; do
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
# As the kubelet does it: the service account's token where the client looks for it.
mkdir -p "$root/run/secrets"
mount --bind "$KEEPIP_ACCOUNT" "$root/run/secrets"
mount -o remount,bind,ro "$root"
exec chroot "$root" setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set=-all --inh-caps=-all \
    --no-new-privs env -u KEEPIP_ACCOUNT "$@"
