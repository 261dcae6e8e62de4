/* A FUSE mount of a folder that fails on command; it is unmounted when its standard input ends.
 *
 * cc -o faulty faulty.c $(pkg-config --cflags --libs fuse3)
 * ./faulty FOLDER MOUNT_POINT [direct] [late] [nocopy] [fold] [flag] [norm] [utf8] [colon] [bad] [names=COUNT] [order] [wronly] [keep] [noname] [notime] [other]
 *
 *   direct  the kernel caches nothing: each read is an operation here
 *   late    the kernel caches writes, and reports their errors when the file is closed (as with NFS)
 *   nocopy  copy_file_range is not supported
 *   fold    names are stored in lower case and found in any case
 *   flag    the same in folders named "any-case" and those in them, which have the flag of ext4 for it
 *   norm    names are stored as given, and found with an e-acute in either Unicode normalization (ZFS)
 *   utf8    names that are not UTF-8 are refused; colon: names with a colon; names=: names longer than COUNT bytes
 *   order   files are written sequentially, and cannot be read while they are open for writing (rclone mount)
 *   wronly  files cannot be opened for reading and writing at once (Mountpoint for Amazon S3)
 *   keep    a rename does not replace; noname: rename is not supported; notime: times cannot be set
 *   other   all entries seem to belong to another user
 *   bad     files named "bad..." cannot be accessed, and files named "torn..." cannot be read beyond 4096 bytes
 *
 * Commands, one per line, each with a one-line response:
 *   plan FIRST TIMES ERRNO [OPERATION ...]   of these operations (none: all), counted from 1, FIRST and the next
 *                                            TIMES - 1 fail (TIMES 0: all from FIRST on); ERRNO 0: half of the bytes
 *   count                                    numbers of operations and failures since, and the first failed operation
 */
#define FUSE_USE_VERSION 312
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *NAMES[] = {"getattr", "readlink", "mkdir", "mknod", "unlink", "rmdir", "symlink", "rename", "link", "chmod",
                              "truncate", "utimens", "create", "open", "read", "write", "flush", "opendir", "readdir", "copy", "lseek"};
enum { GETATTR, READLINK, MKDIR, MKNOD, UNLINK, RMDIR, SYMLINK, RENAME, LINK, CHMOD,
       TRUNCATE, UTIMENS, CREATE, OPEN, READ, WRITE, FLUSH, OPENDIR, READDIR, COPY, LSEEK, KINDS };

static int root, other, order, wronly, keep, noname, notime, direct, late, nocopy, fold, flag, norm, utf8, colon, bad_ones, longest = 255;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long count, failed, first, times;
static int error, kinds = -1, first_kind = -1;

/* Whether an operation fails now: -errno; 1 for half of the bytes; else 0. */
static int planned(int kind) {
  int answer = 0;
  pthread_mutex_lock(&mutex);
  if (kinds & 1 << kind && ++count >= first && first && (!times || count < first + times)) {
    if (!failed++) first_kind = kind;
    answer = error ? -error : 1;
  }
  pthread_mutex_unlock(&mutex);
  return answer;
}

static int is_utf8(const unsigned char *s) {
  while (*s) {
    int more = *s < 0x80 ? 0 : *s >> 5 == 6 ? 1 : *s >> 4 == 14 ? 2 : *s >> 3 == 30 ? 3 : -1;
    if (more < 0) return 0;
    for (s++; more; more--, s++) if (*s >> 6 != 2) return 0;
  }
  return 1;
}

static void compose(char *s) {
  while ((s = strstr(s, "e\xcc\x81"))) memcpy(s, "\xc3\xa9", 2), memmove(s + 2, s + 3, strlen(s + 3) + 1);
}

/* Replace each name in a path by that of the entry that it equals in another normalization, if there is one. */
static void spelled(char *path) {
  char whole[4096], wanted[256], got[256], kept[256], *save, *name;
  snprintf(whole, sizeof whole, "%s", path);
  *path = 0;
  for (name = strtok_r(whole, "/", &save); name; name = strtok_r(NULL, "/", &save)) {
    int fd = openat(root, *path ? path : ".", O_RDONLY | O_DIRECTORY);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    compose(strcpy(wanted, strcpy(kept, name)));
    for (struct dirent *e; dir && (e = readdir(dir));) {
      compose(strcpy(got, e->d_name));
      if (!strcmp(got, wanted)) strcpy(kept, e->d_name);
    }
    if (*path) strcat(path, "/");
    strcat(path, kept);
    if (dir) closedir(dir);
  }
}

/* Write the path relative to the folder behind into a buffer; return -errno if the disk refuses the name. */
static int where(const char *path, char *to) {
  const char *name = strrchr(path, '/') + 1;
  if ((int)strlen(name) > longest) return -ENAMETOOLONG;
  if (utf8 && !is_utf8((const unsigned char *)name)) return -EILSEQ;
  if (colon && strchr(name, ':')) return -EINVAL;
  if (bad_ones && !strncmp(name, "bad", 3)) return -EIO;
  if (snprintf(to, 4096, "%s", path[1] ? path + 1 : ".") >= 4096) return -ENAMETOOLONG;
  char *any = flag ? strstr(path, "/any-case/") : NULL, *start = fold ? to : any ? to + (any - path) : "";
  for (char *c = start; *c; c++) if (*c >= 'A' && *c <= 'Z') *c += 32;
  if (norm) spelled(to);
  return 0;
}

#define GATE(kind) int bad = planned(kind); if (bad < 0) return bad
#define AT(path, real) char real[4096]; if ((bad = where(path, real))) return bad
#define ANSWER(call) ((call) < 0 ? -errno : 0)
#define BYTES(call) ssize_t got = (call); return got < 0 ? -errno : got

static int f_getattr(const char *p, struct stat *st, struct fuse_file_info *fi) {
  GATE(GETATTR);
  int got;
  if (fi) {
    got = fstat(fi->fh, st);
  } else {
    AT(p, r);
    got = fstatat(root, r, st, AT_SYMLINK_NOFOLLOW);
  }
  if (got < 0) return -errno;
  if (other) st->st_uid = 1234;
  return 0;
}
static int f_readlink(const char *p, char *buf, size_t n) {
  GATE(READLINK); AT(p, r);
  ssize_t got = readlinkat(root, r, buf, n - 1);
  if (got < 0) return -errno;
  buf[got] = 0;
  return 0;
}
static int f_mkdir(const char *p, mode_t m) { GATE(MKDIR); AT(p, r); return ANSWER(mkdirat(root, r, m)); }
static int f_mknod(const char *p, mode_t m, dev_t d) { GATE(MKNOD); AT(p, r); return ANSWER(mknodat(root, r, m, d)); }
static int f_unlink(const char *p) { GATE(UNLINK); AT(p, r); return ANSWER(unlinkat(root, r, 0)); }
static int f_rmdir(const char *p) { GATE(RMDIR); AT(p, r); return ANSWER(unlinkat(root, r, AT_REMOVEDIR)); }
static int f_symlink(const char *to, const char *p) { GATE(SYMLINK); AT(p, r); return ANSWER(symlinkat(to, root, r)); }
static int f_rename(const char *a, const char *b, unsigned int flags) {
  GATE(RENAME); AT(a, from); AT(b, to);
  struct stat st;
  if (noname) return -ENOSYS;
  if (keep && !fstatat(root, to, &st, AT_SYMLINK_NOFOLLOW)) return -EEXIST;
  return ANSWER(renameat2(root, from, root, to, flags));
}
static int f_link(const char *a, const char *b) { GATE(LINK); AT(a, from); AT(b, to); return ANSWER(linkat(root, from, root, to, 0)); }
static int f_chmod(const char *p, mode_t m, struct fuse_file_info *fi) { GATE(CHMOD); AT(p, r); return ANSWER(fchmodat(root, r, m, 0)); }
static int f_truncate(const char *p, off_t n, struct fuse_file_info *fi) {
  GATE(TRUNCATE);
  if (fi) return ANSWER(ftruncate(fi->fh, n));
  AT(p, r);
  int fd = openat(root, r, O_WRONLY | O_NOFOLLOW);
  if (fd < 0) return -errno;
  int answer = ANSWER(ftruncate(fd, n));
  close(fd);
  return answer;
}
static int f_utimens(const char *p, const struct timespec t[2], struct fuse_file_info *fi) {
  GATE(UTIMENS);
  if (notime) return -EOPNOTSUPP;
  if (fi) return ANSWER(futimens(fi->fh, t));
  AT(p, r);
  return ANSWER(utimensat(root, r, t, AT_SYMLINK_NOFOLLOW));
}
static int opened(struct fuse_file_info *fi, int fd) {
  fi->fh = fd;
  fi->direct_io = direct;
  return fd < 0 ? -errno : 0;
}
/* A kernel that caches writes also reads files that were opened for writing, to fill its pages. */
static int mode_of(int flags) { return late && (flags & O_ACCMODE) == O_WRONLY ? (flags & ~O_ACCMODE) | O_RDWR : flags; }
static int f_create(const char *p, mode_t m, struct fuse_file_info *fi) {
  GATE(CREATE); AT(p, r);
  if (wronly && (fi->flags & O_ACCMODE) == O_RDWR) return -EINVAL;
  return opened(fi, openat(root, r, mode_of(fi->flags) | O_CREAT | O_NOFOLLOW, m));
}
static int f_open(const char *p, struct fuse_file_info *fi) {
  GATE(OPEN); AT(p, r);
  return opened(fi, openat(root, r, mode_of(fi->flags) | O_NOFOLLOW));
}
static int f_read(const char *p, char *buf, size_t n, off_t at, struct fuse_file_info *fi) {
  GATE(READ);
  if (order && (fcntl(fi->fh, F_GETFL) & O_ACCMODE) != O_RDONLY) return -EPERM;
  if (bad_ones && at + n > 4096 && !strncmp(strrchr(p, '/') + 1, "torn", 4)) return -EIO;
  /* A kernel that caches reads takes a short read for the end of the file. */
  BYTES(pread(fi->fh, buf, bad && direct && n > 1 ? n / 2 : n, at));
}
static int f_write(const char *p, const char *buf, size_t n, off_t at, struct fuse_file_info *fi) {
  GATE(WRITE);
  struct stat st;
  if (order && (fstat(fi->fh, &st) || at != st.st_size)) return -ESPIPE;
  /* A kernel that caches writes does not retry a short write. */
  BYTES(pwrite(fi->fh, buf, bad && !late && n > 1 ? n / 2 : n, at));
}
static ssize_t f_copy(const char *a, struct fuse_file_info *from, off_t at, const char *b, struct fuse_file_info *to, off_t there,
                      size_t n, int flags) {
  if (nocopy || order || wronly) return -EOPNOTSUPP;
  GATE(COPY);
  BYTES(copy_file_range(from->fh, &at, to->fh, &there, bad && n > 1 ? n / 2 : n, flags));
}
static off_t f_lseek(const char *p, off_t at, int whence, struct fuse_file_info *fi) {
  GATE(LSEEK);
  off_t got = lseek(fi->fh, at, whence);
  return got < 0 ? -errno : got;
}
static int f_ioctl(const char *p, unsigned int command, void *arg, struct fuse_file_info *fi, unsigned int flags, void *data) {
  if (!flag || command != FS_IOC_GETFLAGS) return -ENOTTY;
  const char *any = strstr(p, "/any-case");
  *(int *)data = any && (!any[9] || any[9] == '/') ? FS_CASEFOLD_FL : 0;
  return 0;
}
static int f_flush(const char *p, struct fuse_file_info *fi) { GATE(FLUSH); return 0; }
static int f_release(const char *p, struct fuse_file_info *fi) { close(fi->fh); return 0; }
static int f_opendir(const char *p, struct fuse_file_info *fi) {
  GATE(OPENDIR); AT(p, r);
  int fd = openat(root, r, O_RDONLY | O_DIRECTORY);
  fi->fh = fd;
  return fd < 0 ? -errno : 0;
}
static int f_readdir(const char *p, void *buf, fuse_fill_dir_t fill, off_t at, struct fuse_file_info *fi, enum fuse_readdir_flags flags) {
  GATE(READDIR);
  int fd = openat(fi->fh, ".", O_RDONLY | O_DIRECTORY);
  DIR *dir = fd < 0 ? NULL : fdopendir(fd);
  if (!dir) return -errno;
  for (struct dirent *e; (e = readdir(dir));) {
    struct stat st = {.st_ino = e->d_ino, .st_mode = e->d_type << 12};
    if (fill(buf, e->d_name, &st, 0, 0)) break;
  }
  closedir(dir);
  return 0;
}
static void *f_init(struct fuse_conn_info *conn, struct fuse_config *cfg) {
  cfg->use_ino = cfg->hard_remove = 1;
  cfg->entry_timeout = cfg->attr_timeout = cfg->negative_timeout = 0;
  if (late) conn->want |= FUSE_CAP_WRITEBACK_CACHE;
  puts("mounted");
  return NULL;
}
static const struct fuse_operations operations = {
    .init = f_init, .getattr = f_getattr, .readlink = f_readlink, .mkdir = f_mkdir, .mknod = f_mknod, .unlink = f_unlink,
    .rmdir = f_rmdir, .symlink = f_symlink, .rename = f_rename, .link = f_link, .chmod = f_chmod, .truncate = f_truncate,
    .utimens = f_utimens, .create = f_create, .open = f_open, .read = f_read, .write = f_write, .flush = f_flush,
    .release = f_release, .opendir = f_opendir, .releasedir = f_release, .readdir = f_readdir, .copy_file_range = f_copy,
    .lseek = f_lseek, .ioctl = f_ioctl};

static void plan(char *words) {
  char *save, *word;
  long at = atol(strtok_r(words, " \n", &save)), many = atol(strtok_r(NULL, " \n", &save));
  int number = atoi(strtok_r(NULL, " \n", &save)), chosen = 0;
  while ((word = strtok_r(NULL, " \n", &save)))
    for (int kind = 0; kind < KINDS; kind++) if (!strcmp(word, NAMES[kind])) chosen |= 1 << kind;
  pthread_mutex_lock(&mutex);
  count = failed = 0, first_kind = -1, first = at, times = many, error = number, kinds = chosen ? chosen : -1;
  pthread_mutex_unlock(&mutex);
  puts("planned");
}
static void *obey(void *mount_point) {
  char line[256];
  while (fgets(line, sizeof line, stdin)) {
    if (!strncmp(line, "plan ", 5)) { plan(line + 5); continue; }
    pthread_mutex_lock(&mutex);
    printf("%ld %ld %s\n", count, failed, first_kind < 0 ? "none" : NAMES[first_kind]);
    pthread_mutex_unlock(&mutex);
  }
  umount2(mount_point, MNT_DETACH);
  exit(0);
}

int main(int argc, char **argv) {
  if (argc < 3) { fprintf(stderr, "faulty FOLDER MOUNT_POINT [MODE ...]\n"); return 2; }
  for (char **mode = argv + 3; *mode; mode++) {
    direct |= !strcmp(*mode, "direct"), late |= !strcmp(*mode, "late"), nocopy |= !strcmp(*mode, "nocopy");
    fold |= !strcmp(*mode, "fold"), flag |= !strcmp(*mode, "flag"), utf8 |= !strcmp(*mode, "utf8"), colon |= !strcmp(*mode, "colon");
    bad_ones |= !strcmp(*mode, "bad"), norm |= !strcmp(*mode, "norm");
    order |= !strcmp(*mode, "order"), wronly |= !strcmp(*mode, "wronly"), keep |= !strcmp(*mode, "keep");
    other |= !strcmp(*mode, "other");
    noname |= !strcmp(*mode, "noname"), notime |= !strcmp(*mode, "notime");
    if (!strncmp(*mode, "names=", 6)) longest = atoi(*mode + 6);
  }
  setlinebuf(stdout);
  umask(0);
  root = open(argv[1], O_RDONLY | O_DIRECTORY);
  if (root < 0) { perror(argv[1]); return 1; }
  char *words[] = {argv[0], NULL};
  struct fuse_args args = FUSE_ARGS_INIT(1, words);
  struct fuse *fuse = fuse_new(&args, &operations, sizeof operations, NULL);
  if (!fuse || fuse_mount(fuse, argv[2])) return 1;
  pthread_t commands;
  pthread_create(&commands, NULL, obey, argv[2]);
  /* One operation at a time, so that repeated runs count the same operations. */
  return fuse_loop(fuse);
}
