/**
 * /init of the guest images: file systems, modules for virtio where a virtio device is present, then a root shell on the
 * console, or the command of the kernel parameter `tsvisor.exec="..."` (in base64: `tsvisor.exec64=...`). The machine
 * powers off when either ends. Each command costs a fork and an exec in the guest, so there are few.
 */
export const INIT_SCRIPT = `#!/bin/busybox sh
export PATH=/bin HOME=/root TERM=vt100 ENV=/etc/shrc
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
echo tsvisor >/proc/sys/kernel/hostname
ifconfig lo up

# A machine without virtio devices starts its shell without waiting for drivers; one with PCI Express slots listens for them.
virtio= slots=
for d in /sys/bus/pci/devices/*; do
	[ -e "$d/vendor" ] && read -r v <"$d/vendor" && [ "$v" = 0x1af4 ] && virtio=1
	[ -e "$d/class" ] && read -r c <"$d/class" && [ "$c" = 0x060400 ] && slots=1
done
[ "$virtio" ] && /bin/load-virtio
[ "$slots" ] && [ ! "$virtio" ] && uevent /bin/hotplug &
if [ -d /sys/class/net/eth0 ]; then
	ip link set eth0 up
	udhcpc -i eth0 -n -q -t 4 -T 1 -s /bin/dhcp-lease >/dev/null 2>&1 || echo 'init: no address for eth0'
fi

read -r line </proc/cmdline
line=" $line "
command=
case $line in
*' tsvisor.exec64='*) command=\${line#* tsvisor.exec64=}; command=$(echo "\${command%% *}" | base64 -d) ;;
*' tsvisor.exec="'*) command=\${line#* tsvisor.exec=\\"}; command=\${command%%\\"*} ;;
*' tsvisor.exec='*) command=\${line#* tsvisor.exec=}; command=\${command%% *} ;;
esac

cd /root
if [ "$command" ]; then
	setsid cttyhack sh -c "$command"
	echo "tsvisor.exec: exit status $?"
else
	echo
	echo "Type 'poweroff' or leave the shell to stop the machine."
	setsid cttyhack sh
fi
poweroff -f
`;

/** What interactive shells of the image read first (\`ENV\`). The image has no init daemon, so power-off is immediate. */
export const SHELL_RC = `PS1='\\w \\$ '
alias poweroff='poweroff -f' reboot='reboot -f' halt='halt -f' ll='ls -l'
`;

/**
 * Loads the modules for virtio, in order. Memory that is plugged is used without being asked for, and only for what can be moved
 * again, so that it can be unplugged.
 */
export const LOAD_VIRTIO = `#!/bin/busybox sh
echo online_movable 2>/dev/null >/sys/devices/system/memory/auto_online_blocks
while read -r ko; do insmod "/lib/modules/$ko" || echo "init: cannot load $ko"; done </lib/modules/order
`;

/** Runs for every event of the kernel while no virtio device has been seen: the first one brings the drivers. */
export const HOTPLUG = `#!/bin/busybox sh
case "$ACTION $MODALIAS" in
"add pci:v00001AF4"*) mkdir /run/virtio 2>/dev/null && exec /bin/load-virtio ;;
esac
`;

/** What udhcpc calls with a lease in its environment. */
export const DHCP_LEASE = `#!/bin/busybox sh
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip addr flush dev "$interface"
ip addr add "$ip/$mask" dev "$interface"
[ "$router" ] && ip route add default via "\${router%% *}"
for server in $dns; do echo "nameserver $server"; done >/etc/resolv.conf
`;
