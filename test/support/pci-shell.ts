/** Shell functions of a guest for configuration space and registers, and a script that moves a disk's BAR. */

/**
 * `setcfg DEV OFFSET BYTES`, `cfg DEV OFFSET SIZE`, `bar DEV N`, `rescan DEV`; `net` gets an address and pings the gateway.
 * DEV is as in /sys/bus/pci/devices.
 */
export const PCI_SHELL = `
setcfg() { printf "$3" | dd of=/sys/bus/pci/devices/$1/config bs=1 seek=$(($2)) conv=notrunc 2>/dev/null; }
cfg() { dd if=/sys/bus/pci/devices/$1/config bs=1 skip=$(($2)) count=$3 2>/dev/null | xxd -p; }
bar() { sed -n "$(($2 + 1))s/ .*//p" /sys/bus/pci/devices/$1/resource; }
rescan() { echo 1 >/sys/bus/pci/devices/$1/remove && echo 1 >/sys/bus/pci/rescan; }
net() { ip link set eth0 up && udhcpc -i eth0 -n -q -t 8 -T 1 -s /bin/dhcp-lease >/dev/null 2>&1 && ping -c 2 -W 5 10.0.2.2 >/dev/null && echo pong; }
`;

/** A command that moves BAR 4 of `device`, 64 bits wide, to `address`: decoding off, both halves in bytes, decoding on. */
export function moveBar4(device: string, address: number): string {
  const bytes = (n: number) =>
    [0, 8, 16, 24].map(s => `\\x${(Math.floor(n / 2 ** s) & 0xff).toString(16).padStart(2, '0')}`).join('');
  const high = Math.floor(address / 2 ** 32);
  return [
    `setcfg ${device} 4 '\\x04\\x04'`,
    `setcfg ${device} 0x20 '${bytes(address % 2 ** 32)}'`,
    `setcfg ${device} 0x24 '${bytes(high)}'`,
    `setcfg ${device} 4 '\\x06\\x04'`,
    `cfg ${device} 4 2`,
  ].join('; ');
}
