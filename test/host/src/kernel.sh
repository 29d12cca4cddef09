# What the kernel does when setup.sh writes $2 to file $1 of sysfs. Every write is logged.
# A controller with the file `refuses` is taken by no driver named there; a pool with the file `most` grows no further.
put() {
    local device=$PCI/devices/$2 driver
    printf '%s %s\n' "${1#"$SYSFS"/}" "$2" >> "$WRITES"
    case $1 in
        */driver/unbind)
            rm -r "$device/driver"
            [ ! -e "$device/nvme" ] || mv "$device/nvme" "$device/nvme.gone"
            ;;
        */drivers_probe)
            read -r driver < "$device/driver_override" || true
            driver=${driver:-nvme}
            if grep -qsx "$driver" "$device/refuses"; then return 0; fi
            ln -s "../../drivers/$driver" "$device/driver"
            [ "$driver" != nvme ] || [ ! -e "$device/nvme.gone" ] || mv "$device/nvme.gone" "$device/nvme"
            ;;
        */nr_hugepages)
            local most
            most=$(cat "$(dirname "$1")/most" 2>/dev/null || echo "$2")
            if [ "$2" -gt "$most" ]; then echo "$most" > "$1"; else echo "$2" > "$1"; fi
            ;;
        *) printf '%s\n' "$2" > "$1" ;;
    esac
}
BIND_TENTHS=1
