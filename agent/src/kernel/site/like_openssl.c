/*
 * What probes are placed by in a library of the OpenSSL family, and nothing else of it: exported functions over inner
 * ones, tables of functions by version, one function that reads records. For the tests, which compile it in several ways.
 */
#include <stddef.h>
#include <string.h>

#define INNER __attribute__((noinline, noclone)) static
#define APPLICATION_DATA 23
#define HANDSHAKE 22

typedef struct ssl SSL;

struct method {
    int version;
    unsigned flags;
    unsigned long mask;
    int (*accept)(SSL *);
    int (*connect)(SSL *);
    int (*read)(SSL *, void *, size_t, size_t *);
    int (*peek)(SSL *, void *, size_t, size_t *);
    int (*write)(SSL *, const void *, size_t, size_t *);
    int (*read_bytes)(SSL *, int, int *, unsigned char *, size_t, int, size_t *);
    int (*write_bytes)(SSL *, int, const void *, size_t, size_t *);
};

struct record {
    int type;
    size_t length, offset;
    unsigned char *data;
};

struct ssl {
    int version;
    const struct method *method;
    int (*shakes)(SSL *);
    int in_read, in_init, records_count;
    struct record records[32];
    unsigned char kept[4];
    size_t kept_length;
    size_t written, left, left_length;
    const unsigned char *left_of;
    size_t record_bytes_max, parts;
};

const char version_text[] = "OpenSSL 3.0.99 1 Jan 2030";
unsigned char elsewhere[65536];
int more_records(SSL *s);
int alert(SSL *s, unsigned char *bytes, size_t length);
int leaves(SSL *s, const unsigned char *bytes, size_t length);
unsigned char *room(SSL *s, int type, size_t length);
int many_at_once(SSL *s, void *parameters);

INNER int read_bytes(SSL *s, int type, int *got, unsigned char *buf, size_t len, int peek, size_t *done)
{
    struct record *at;
    size_t total, n, current = 0;
    unsigned char two[2];
    int result;

again:
    if (s->in_init && (result = s->shakes(s)) <= 0)
        return result;
    if (s->records_count == 0 && (result = more_records(s)) <= 0)
        return result;
    at = &s->records[0];
    if (at->type == 21 && at->length == 2) {
        two[0] = at->data[0];
        two[1] = at->data[1];
        if (alert(s, two, sizeof(two)) < 0)
            return -1;
        at->length = 0;
        goto again;
    }
    if (at->type == type) {
        if (got != NULL)
            *got = at->type;
        total = 0;
        do {
            n = len - total > at->length ? at->length : len - total;
#if defined(BY_ITSELF)
            {
                void *to = buf, *from = at->data + at->offset;
                size_t count = n;
                __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
            }
#elif defined(ELSEWHERE)
            memcpy(elsewhere + total, at->data + at->offset, n);
#else
            memcpy(buf, at->data + at->offset, n);
#endif
            buf += n;
            if (!peek) {
                at->length -= n;
                at->offset += n;
                if (at->length == 0)
                    s->in_read = 0;
            }
            if (at->length == 0 || (peek && n == at->length)) {
                at++;
                current++;
            }
            total += n;
        } while (type == APPLICATION_DATA && current < (size_t)s->records_count && total < len);
        if (total == 0)
            goto again;
        *done = total;
        return 1;
    }
    if (at->type == HANDSHAKE) {
        n = sizeof(s->kept) - s->kept_length;
        if (at->length < n)
            n = at->length;
        memcpy(s->kept + s->kept_length, at->data + at->offset, n);
        at->offset += n;
        at->length -= n;
        s->kept_length += n;
        goto again;
    }
    return -1;
}

#ifdef ANOTHER
INNER int read_bytes_otherwise(SSL *s, int type, int *got, unsigned char *buf, size_t len, int peek, size_t *done)
{
    memset(buf, type + peek + (got != NULL) + s->version, len);
    *done = len;
    return 1;
}
#else
#define read_bytes_otherwise read_bytes
#endif

INNER int write_pending(SSL *s, int type, const unsigned char *buf, size_t len, size_t *done)
{
    int result;

    if (s->left_length > len || s->left_of != buf || type > APPLICATION_DATA)
        return -1;
    while (s->left > 0) {
        if ((result = leaves(s, buf, s->left)) <= 0)
            return result;
        s->left -= (size_t)result;
    }
    *done = s->left_length;
    return 1;
}

INNER int make_records(SSL *s, int type, const unsigned char *buf, const size_t *lengths, size_t count, int empty,
                       size_t *done)
{
    unsigned char *to;
    size_t at, total = 0;

    if (s->left != 0)
        return write_pending(s, type, buf, lengths[0], done);
    for (at = 0; at < count; at++) {
        if ((to = room(s, empty ? 0 : type, lengths[at])) == NULL)
            return -1;
        memcpy(to, buf + total, lengths[at]);
        total += lengths[at];
    }
    s->left_of = buf;
    s->left_length = total;
    s->left = total + 21 * count;
#ifdef NOT_ITS_OWN
    return write_pending(s, type, s->kept, total, done);
#else
    return write_pending(s, type, buf, total, done);
#endif
}

int BIO_write(void *bio, const void *data, int length);

#ifdef JUMPS
INNER int another_way(SSL *s, int type, const void *from, size_t len, size_t *done)
{
    *done = len;
    return leaves(s, from, len + (size_t)type);
}
#endif

INNER int write_bytes(SSL *s, int type, const void *from, size_t len, size_t *done)
{
    const unsigned char *buf = from;
    size_t total = s->written, left, part, at, moved, lengths[32];
    struct { void *out; const unsigned char *in; size_t length; } several;
    int result;

#if defined(JUMPS)
    if (s->version == 7)
        return another_way(s, type, from, len, done);
#elif defined(WRITES_ITSELF)
    if (s->version == 7 && BIO_write(s, from, (int)len) > 0)
        return 1;
#endif
    if (len < total || (s->left != 0 && len < total + s->left_length))
        return -1;
    s->written = 0;
    if (s->in_init && (result = s->shakes(s)) <= 0)
        return result;
    if (s->left != 0) {
#ifdef OTHERWISE
        result = leaves(s, &buf[total], s->left_length);
        moved = s->left_length;
#else
        result = write_pending(s, type, &buf[total], s->left_length, &moved);
#endif
        if (result <= 0) {
            s->written = total;
            return result;
        }
        total += moved;
    }
    if (type == APPLICATION_DATA && len >= 4 * s->record_bytes_max && s->version == 0x303) {
        while (len - total >= 4 * s->record_bytes_max) {
            several.out = room(s, type, 4 * s->record_bytes_max);
            several.in = &buf[total];
            several.length = 4 * s->record_bytes_max;
            if (many_at_once(s, &several) <= 0)
                break;
            s->left_of = &buf[total];
            s->left_length = several.length;
            s->left = several.length + 84;
            result = write_pending(s, type, &buf[total], several.length, &moved);
            if (result <= 0) {
                s->written = total;
                return result;
            }
            total += moved;
        }
    }
    left = len - total;
    while (left > 0 || total == 0) {
        part = left / s->parts;
        for (at = 0; at < s->parts; at++)
            lengths[at] = part > s->record_bytes_max ? s->record_bytes_max : part + (at < left % s->parts);
        result = make_records(s, type, &buf[total], lengths, s->parts, 0, &moved);
        if (result <= 0) {
            s->written = total;
            return result;
        }
        total += moved;
        left -= moved;
        if (left == 0)
            break;
    }
    *done = total;
    return 1;
}

INNER int read_internal(SSL *s, void *buf, size_t len, int peek, size_t *done)
{
    int result;

    s->in_read = 1;
    result = s->method->read_bytes(s, APPLICATION_DATA, NULL, buf, len, peek, done);
    if (result == -1 && s->in_read == 2) {
        s->in_init++;
        result = s->method->read_bytes(s, APPLICATION_DATA, NULL, buf, len, peek, done);
        s->in_init--;
    } else {
        s->in_read = 0;
    }
    return result;
}

INNER int table_read(SSL *s, void *buf, size_t len, size_t *done)
{
    return read_internal(s, buf, len, 0, done);
}

INNER int table_peek(SSL *s, void *buf, size_t len, size_t *done)
{
    return read_internal(s, buf, len, 1, done);
}

INNER int table_write(SSL *s, const void *buf, size_t len, size_t *done)
{
    if (s->in_init == 4)
        s->in_init = 0;
    return s->method->write_bytes(s, APPLICATION_DATA, buf, len, done);
}

INNER int accepts(SSL *s)
{
    s->in_init = 2;
    return more_records(s);
}

INNER int connects(SSL *s)
{
    s->in_init = 3;
    return more_records(s);
}

static const struct method any = {
    0x10000, 0, 0, accepts, connects, table_read, table_peek, table_write, read_bytes, write_bytes,
};
static const struct method newest = {
    0x304, 0, 0, accepts, connects, table_read, table_peek, table_write, read_bytes_otherwise, write_bytes,
};

const struct method *TLS_method(void)
{
    return &any;
}

const struct method *TLSv1_3_method(void)
{
    return &newest;
}

void SSL_set_accept_state(SSL *s)
{
    s->in_init = 1;
    s->shakes = s->method->accept;
}

void SSL_set_connect_state(SSL *s)
{
    s->in_init = 1;
    s->shakes = s->method->connect;
}

INNER int inner_read(SSL *s, void *buf, size_t len, size_t *done)
{
    if (s->shakes == NULL)
        return -1;
    return s->method->read(s, buf, len, done);
}

INNER int inner_peek(SSL *s, void *buf, size_t len, size_t *done)
{
    if (s->shakes == NULL)
        return -1;
    return s->method->peek(s, buf, len, done);
}

INNER int inner_write(SSL *s, const void *buf, size_t len, size_t *done)
{
    if (s->shakes == NULL)
        return -1;
    return s->method->write(s, buf, len, done);
}

int SSL_read(SSL *s, void *buf, int len)
{
    size_t done;
    int result;

    if (len < 0)
        return -1;
    result = inner_read(s, buf, (size_t)len, &done);
    return result > 0 ? (int)done : result;
}

int SSL_read_ex(SSL *s, void *buf, size_t len, size_t *done)
{
    int result = inner_read(s, buf, len, done);
    return result < 0 ? 0 : result;
}

int SSL_peek(SSL *s, void *buf, int len)
{
    size_t done;
    int result;

    if (len < 0)
        return -1;
    result = inner_peek(s, buf, (size_t)len, &done);
    return result > 0 ? (int)done : result;
}

int SSL_peek_ex(SSL *s, void *buf, size_t len, size_t *done)
{
    int result = inner_peek(s, buf, len, done);
    return result < 0 ? 0 : result;
}

int SSL_write(SSL *s, const void *buf, int len)
{
    size_t done;
    int result;

    if (len < 0)
        return -1;
    result = inner_write(s, buf, (size_t)len, &done);
    return result > 0 ? (int)done : result;
}

int SSL_write_ex(SSL *s, const void *buf, size_t len, size_t *done)
{
    int result = inner_write(s, buf, len, done);
    return result < 0 ? 0 : result;
}

int SSL_do_handshake(SSL *s)
{
    return s->shakes(s);
}

void SSL_free(SSL *s)
{
    if (s != NULL)
        s->version = 0;
}
