# shellcheck shell=sh
# Installs GRUB by the programs of the system that this runs in, to $GRUB_INSTALL_PATH.

# Mounts what fstab has for a place. It may have nothing, and may say that it need not be there.
mount_place() {
    [ -e /etc/fstab ] || return 0
    while read -r device point kind options rest || [ -n "$device" ]; do
        case "$device" in '#'*) continue ;; esac
        [ "${point%/}" = "$1" ] || continue
        mount "$point" </dev/null && continue
        case ",$options," in *,noauto,* | *,nofail,*) continue ;; esac
        echo "mounting $1 failed, where /etc/fstab has $device ($kind): GRUB would be installed beside it; mend fstab, or make that filesystem first" >&2
        return 1
    done </etc/fstab
    return 0
}

for place in /boot /boot/efi /efi; do
    mount_place "$place" || exit
done
if command -v grub-install >/dev/null; then
    grub-install "$GRUB_INSTALL_PATH" || exit
    if command -v update-grub >/dev/null; then
        update-grub
    else
        grub-mkconfig -o /boot/grub/grub.cfg
    fi
elif command -v grub2-install >/dev/null; then
    grub2-install "$GRUB_INSTALL_PATH" || exit
    grub2-mkconfig -o /boot/grub2/grub.cfg
else
    echo 'the installed system has neither grub-install nor grub2-install: install its package of GRUB (grub-pc or grub-efi, grub2-tools) in it first' >&2
    exit 1
fi
