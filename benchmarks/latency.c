/* A FUSE file system that serves a folder and delays each operation, to simulate a disk with latency.
 *
 * cc -O2 -o latency latency.c $(pkg-config --cflags --libs fuse3)
 * ./latency FOLDER MICROSECONDS MOUNT_POINT -f
 */
#define FUSE_USE_VERSION 312
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int root;            /* descriptor of the served folder */
static struct timespec lag; /* delay before each operation */

#define SLOW() nanosleep(&lag, NULL)
#define REL(path) ((path)[1] ? (path) + 1 : ".")
#define ANSWER(call) ((call) < 0 ? -errno : 0)

static int l_getattr(const char *p, struct stat *st, struct fuse_file_info *fi) {
  SLOW();
  return ANSWER(fi ? fstat(fi->fh, st) : fstatat(root, REL(p), st, AT_SYMLINK_NOFOLLOW));
}
static int l_readlink(const char *p, char *buf, size_t n) {
  SLOW();
  ssize_t got = readlinkat(root, REL(p), buf, n - 1);
  if (got < 0) return -errno;
  buf[got] = 0;
  return 0;
}
static int l_mkdir(const char *p, mode_t m) { SLOW(); return ANSWER(mkdirat(root, REL(p), m)); }
static int l_unlink(const char *p) { SLOW(); return ANSWER(unlinkat(root, REL(p), 0)); }
static int l_rmdir(const char *p) { SLOW(); return ANSWER(unlinkat(root, REL(p), AT_REMOVEDIR)); }
static int l_rename(const char *a, const char *b, unsigned int f) { SLOW(); return ANSWER(renameat2(root, REL(a), root, REL(b), f)); }
static int l_chmod(const char *p, mode_t m, struct fuse_file_info *fi) { SLOW(); return ANSWER(fchmodat(root, REL(p), m, 0)); }
static int l_chown(const char *p, uid_t u, gid_t g, struct fuse_file_info *fi) { SLOW(); return ANSWER(fchownat(root, REL(p), u, g, AT_SYMLINK_NOFOLLOW)); }
static int l_truncate(const char *p, off_t n, struct fuse_file_info *fi) {
  SLOW();
  if (fi) return ANSWER(ftruncate(fi->fh, n));
  int fd = openat(root, REL(p), O_WRONLY | O_NOFOLLOW);
  if (fd < 0) return -errno;
  int got = ANSWER(ftruncate(fd, n));
  close(fd);
  return got;
}
static int l_utimens(const char *p, const struct timespec t[2], struct fuse_file_info *fi) { SLOW(); return ANSWER(utimensat(root, REL(p), t, AT_SYMLINK_NOFOLLOW)); }
static int l_create(const char *p, mode_t m, struct fuse_file_info *fi) {
  SLOW();
  int fd = openat(root, REL(p), fi->flags | O_CREAT | O_NOFOLLOW, m);
  fi->fh = fd;
  return fd < 0 ? -errno : 0;
}
static int l_open(const char *p, struct fuse_file_info *fi) {
  SLOW();
  int fd = openat(root, REL(p), fi->flags | O_NOFOLLOW);
  fi->fh = fd;
  return fd < 0 ? -errno : 0;
}
static int l_read(const char *p, char *buf, size_t n, off_t at, struct fuse_file_info *fi) {
  SLOW();
  ssize_t got = pread(fi->fh, buf, n, at);
  return got < 0 ? -errno : got;
}
static int l_write(const char *p, const char *buf, size_t n, off_t at, struct fuse_file_info *fi) {
  SLOW();
  ssize_t got = pwrite(fi->fh, buf, n, at);
  return got < 0 ? -errno : got;
}
static int l_release(const char *p, struct fuse_file_info *fi) { close(fi->fh); return 0; }
static int l_readdir(const char *p, void *buf, fuse_fill_dir_t fill, off_t at, struct fuse_file_info *fi, enum fuse_readdir_flags fl) {
  SLOW();
  int fd = openat(root, REL(p), O_RDONLY | O_DIRECTORY);
  DIR *dir = fd < 0 ? NULL : fdopendir(fd);
  if (!dir) return -errno;
  for (struct dirent *e; (e = readdir(dir));) {
    struct stat st = {.st_ino = e->d_ino, .st_mode = e->d_type << 12};
    if (fill(buf, e->d_name, &st, 0, 0)) break;
  }
  closedir(dir);
  return 0;
}
static const struct fuse_operations operations = {
    .getattr = l_getattr, .readlink = l_readlink, .mkdir = l_mkdir, .unlink = l_unlink, .rmdir = l_rmdir,
    .rename = l_rename, .chmod = l_chmod, .chown = l_chown, .truncate = l_truncate, .utimens = l_utimens,
    .create = l_create, .open = l_open, .read = l_read, .write = l_write, .release = l_release, .readdir = l_readdir};

int main(int argc, char **argv) {
  if (argc < 4) { fprintf(stderr, "latency FOLDER MICROSECONDS MOUNT_POINT [FUSE OPTIONS]\n"); return 2; }
  root = open(argv[1], O_RDONLY | O_DIRECTORY);
  if (root < 0) { perror(argv[1]); return 1; }
  long micro = atol(argv[2]);
  lag = (struct timespec){.tv_sec = micro / 1000000, .tv_nsec = micro % 1000000 * 1000};
  umask(0);
  argv[2] = argv[0];
  return fuse_main(argc - 2, argv + 2, &operations, NULL);
}
