/* Only the system calls of a copy, a comparison or a deletion of a tree: no program that makes them is faster.

     cc -O2 -o floor floor.c
     floor copy SOURCE NEW            as `transfer` does: read between two looks at the file, write under a temporary
                                      name, read back and compare, rename
     floor compare SOURCE TARGET      as `transfer(..., sync_level="mtime")` does: look at both files of each name
     floor delete FOLDER              as `delete` does */

#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST (1 << 18)

static const char *temporary = ".chiltepin-0123456789ab-0123456789abcdef-1-01234567";
static char content[MOST + 1], again[MOST + 1];
static enum { COPY, COMPARE, DELETE } work;
static long differing;

static int open_folder(int above, const char *name) {
    int folder = openat(above, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_DIRECTORY);
    if (folder < 0)
        err(1, "%s", name);
    return folder;
}

static void copy(int source, int target, const char *name) {
    struct stat before, after;
    int file = openat(source, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    if (file < 0 || fstat(file, &before))
        err(1, "%s", name);
    ssize_t count = read(file, content, before.st_size + 1);
    if (count != before.st_size || fstat(file, &after) || after.st_mtim.tv_nsec != before.st_mtim.tv_nsec)
        errx(1, "%s has changed", name);
    close(file);
    file = openat(target, temporary, O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (file < 0 || write(file, content, count) != count)
        err(1, "%s", temporary);
    if (pread(file, again, count + 1, 0) != count || memcmp(content, again, count))
        errx(1, "%s is not what was written", name);
    close(file);
    if (renameat(target, temporary, target, name))
        err(1, "%s", name);
}

static void compare(int source, int target, const char *name) {
    struct stat here, there;
    if (fstatat(source, name, &here, AT_SYMLINK_NOFOLLOW) || fstatat(target, name, &there, AT_SYMLINK_NOFOLLOW))
        err(1, "%s", name);
    differing += here.st_size != there.st_size || here.st_mtim.tv_sec != there.st_mtim.tv_sec;
}

static void folder_of(int source, int target) {
    DIR *listing = fdopendir(dup(source));
    struct dirent *entry;
    if (!listing)
        err(1, "fdopendir");
    while ((entry = readdir(listing))) {
        const char *name = entry->d_name;
        if (!strcmp(name, ".") || !strcmp(name, ".."))
            continue;
        if (entry->d_type != DT_DIR) {
            if (work == COPY)
                copy(source, target, name);
            else if (work == COMPARE)
                compare(source, target, name);
            else if (unlinkat(source, name, 0))
                err(1, "%s", name);
            continue;
        }
        if (work == COPY && mkdirat(target, name, 0777))
            err(1, "%s", name);
        int here = open_folder(source, name), there = work == DELETE ? -1 : open_folder(target, name);
        folder_of(here, there);
        close(here);
        if (there >= 0)
            close(there);
        if (work == DELETE && unlinkat(source, name, AT_REMOVEDIR))
            err(1, "%s", name);
    }
    closedir(listing);
}

int main(int count, char **words) {
    if (count < 3 || (count < 4 && strcmp(words[1], "delete")))
        errx(2, "use: floor copy|compare SOURCE TARGET, or floor delete FOLDER");
    work = !strcmp(words[1], "copy") ? COPY : !strcmp(words[1], "compare") ? COMPARE : DELETE;
    if (work == COPY && mkdir(words[3], 0777))
        err(1, "%s", words[3]);
    folder_of(open_folder(AT_FDCWD, words[2]), work == DELETE ? -1 : open_folder(AT_FDCWD, words[3]));
    if (work == DELETE && rmdir(words[2]))
        err(1, "%s", words[2]);
    if (differing)
        errx(1, "%ld files differ", differing);
    return 0;
}
