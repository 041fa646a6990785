#!/bin/sh
# Makes the root filesystem from mmdebstrap's archive. Runs as root or in a user namespace, since
# owners must be right; what it leaves outside ROOT belongs to the caller.
# usage: root.sh ARCHIVE OVERLAY ROOT LOADERS IMAGE SIZE UUID LABEL
set -eu
archive=$1 overlay=$2 root=$3 loaders=$4 image=$5 size=$6 uuid=$7 label=$8

# In a namespace nobody outside may remove these files.
trap 'rm -rf "$root"' EXIT

# Device nodes cannot be made in a namespace; devtmpfs has them.
tar --numeric-owner --exclude='./dev/*' -C "$root" -xf "$archive"
# Both come from the building machine.
rm -f "$root/etc/resolv.conf" "$root/etc/hostname"
cp -R --no-preserve=mode "$overlay/." "$root/"
ln -s ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"

for directory in debian BOOT; do
    cp "$root/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed" "$loaders/$directory/grubx64.efi"
done
cp "$root/usr/lib/shim/shimx64.efi.signed" "$loaders/debian/shimx64.efi"
cp "$root/usr/lib/shim/shimx64.efi.signed" "$loaders/BOOT/BOOTX64.EFI"
cp "$root/usr/lib/shim/BOOTX64.CSV" "$loaders/debian/BOOTX64.CSV"
cp "$root/usr/lib/shim/mmx64.efi.signed" "$loaders/debian/mmx64.efi"

mke2fs -q -F -t ext4 -L "$label" -U "$uuid" -E "hash_seed=$uuid" -d "$root" "$image" "$size"
