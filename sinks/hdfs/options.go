package hdfs

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path"
	"strconv"
	"strings"
	"time"
)

// Options say where files go and how.
type Options struct {
	Namenodes []string // host:port, tried in order; the first that is active serves
	Root      string   // absolute folder; names of a Target are below it
	User      string   // HDFS user; "" means $HADOOP_USER_NAME, else the user of this process

	// Replication and BlockSize (bytes) of new files; zero means the namenode's defaults.
	Replication int
	BlockSize   int64
	// FileSize is about how large files get; zero means unknown. Without a BlockSize, blocks
	// are made large enough that a file needs one: between two blocks the library cannot recover from anything.
	FileSize int64
	// UseDatanodeHostname dials datanodes by name and not by the address that the
	// namenode knows. Like dfs.client.use.datanode.hostname.
	UseDatanodeHostname bool

	// ConnectTimeout bounds one dial; zero means 10 s.
	ConnectTimeout time.Duration
	// CallTimeout bounds the wait for one answer of a namenode or datanode; zero means 60 s. Like dfs.client.socket-timeout.
	CallTimeout time.Duration
	// RetryFor is how long an operation is tried again while no namenode
	// answers, with growing pauses; zero means 30 s. After that the task's own retry takes over.
	RetryFor time.Duration
}

// WithDefaults fills what is zero.
func (o Options) WithDefaults() Options {
	if o.ConnectTimeout == 0 {
		o.ConnectTimeout = 10 * time.Second
	}
	if o.CallTimeout == 0 {
		o.CallTimeout = 60 * time.Second
	}
	if o.RetryFor == 0 {
		o.RetryFor = 30 * time.Second
	}
	if o.User == "" {
		o.User = os.Getenv("HADOOP_USER_NAME")
	}
	if o.User == "" {
		if u, err := user.Current(); err == nil {
			o.User = u.Username
		}
	}
	if o.Root == "" {
		o.Root = "/"
	}
	return o
}

// blockSize is the block size of new files, given the namenode's default.
func (o Options) blockSize(serverDefault int64) int64 {
	if o.BlockSize != 0 {
		return o.BlockSize
	}
	const mib = 1 << 20
	room := (o.FileSize + o.FileSize/4 + mib - 1) / mib * mib
	return max(serverDefault, room)
}

const defaultPort = "8020"

// ParseURL reads hdfs://[user@]host[:port][,host[:port]…]/folder. The port is 8020 unless given.
func ParseURL(s string) (Options, error) {
	var o Options
	rest, ok := strings.CutPrefix(s, "hdfs://")
	if !ok {
		return o, fmt.Errorf("%q does not begin with hdfs://", s)
	}
	hosts, folder, _ := strings.Cut(rest, "/")
	if u, h, ok := strings.Cut(hosts, "@"); ok {
		if u == "" || strings.ContainsAny(u, ":/") {
			return o, fmt.Errorf("%q: the part before the @ must be a user's name alone; HDFS has no passwords", s)
		}
		o.User, hosts = u, h
	}
	for h := range strings.SplitSeq(hosts, ",") {
		addr, err := hostPort(h)
		if err != nil {
			return o, fmt.Errorf("%q: %w", s, err)
		}
		o.Namenodes = append(o.Namenodes, addr)
	}
	if strings.ContainsAny(folder, "?#") {
		return o, fmt.Errorf("%q: a folder's name cannot hold ? or #", s)
	}
	o.Root = path.Clean("/" + folder)
	return o, nil
}

func hostPort(h string) (string, error) {
	if h == "" {
		return "", errors.New("the namenode's host is missing")
	}
	host, port, err := net.SplitHostPort(h)
	if err != nil {
		if strings.Contains(h, ":") && !strings.HasPrefix(h, "[") {
			return "", fmt.Errorf("%q is not host:port", h)
		}
		host, port = strings.Trim(h, "[]"), defaultPort
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || host == "" {
		return "", fmt.Errorf("%q is not host:port", h)
	}
	return net.JoinHostPort(host, port), nil
}
