#!/usr/bin/env bash
# Process 1 of a host: set its name, mount its disks, and wait until it is killed, which ends the whole host.
#
#   host_init.sh NAME STATE SEEN...
#
# STATE/NAME/{tmp,scratch,run,home} are its disks, STATE/shared is the folder that all hosts share, and SEEN are folders
# of the machine that the host can read, besides the system. The script starts in new namespaces with the outer /proc.
set -euo pipefail
name=$1 state=$2 disks=$2/$1
shift 2
root=$disks/root

show() { # show FOLDER: the same folder of the machine, read-only
    if [ -L "$1" ]; then
        mkdir -p "$root$(dirname "$1")"
        cp -a "$1" "$root$1"
    elif [ -d "$1" ]; then
        mkdir -p "$root$1"
        mount --bind "$1" "$root$1"
        mount -o remount,bind,ro "$root$1"
    fi
}

read -r pid _ </proc/self/stat
hostname "$name"
mount -t tmpfs -o mode=755 host "$root"
mkdir -p "$root"/{proc,sys,dev,tmp,scratch,run,home/me,shared,var/tmp,root,old}
for disk in tmp scratch run; do mount --bind "$disks/$disk" "$root/$disk"; done
mount --bind "$disks/tmp" "$root/var/tmp"
mount --bind "$disks/home" "$root/home/me"
mount --bind "$state/shared" "$root/shared"
for folder in /usr /bin /sbin /lib /lib32 /lib64 /libx32 /etc /opt "$@"; do show "$folder"; done
for file in hosts passwd; do mount --bind "$state/etc/$file" "$root/etc/$file"; done
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
cat /proc/sys/kernel/random/uuid >"$disks/boot_id"
mount --bind "$disks/boot_id" "$root/proc/sys/kernel/random/boot_id"
# slurmd does not start without it.
if [ -d "$root/sys/fs/cgroup" ]; then mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"; fi
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
exec 9>"$disks/ready"
cd "$root"
pivot_root . old
umount -l /old
rmdir /old
mount -o remount,ro /
# The process id outside, in one write, because the reader waits for a full line.
echo "$pid" >&9
exec 9>&- </dev/null >/dev/null 2>&1
trap : TERM INT HUP
# Bash reaps the orphans that process 1 inherits.
while :; do
    sleep 3600 &
    wait || :
done
