package membership

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// filePrefix begins a seed that names a file: one seed on a line, `#` begins a comment.
const filePrefix = "file:"

const (
	maxSeedFile    = 64 << 10 // bytes
	maxSeeds       = 1024     // addresses, of all seeds together
	resolveTimeout = 2 * time.Second
)

// CheckSeed says what is wrong with a seed, as far as it can be told before it is used: a name may be known to DNS later, and
// a file may be written later.
func CheckSeed(seed string) error {
	if path, ok := strings.CutPrefix(seed, filePrefix); ok {
		if path == "" {
			return errors.New("file: needs a path behind it")
		}
		return nil
	}
	host, port, err := net.SplitHostPort(seed)
	if err != nil {
		return fmt.Errorf("not host:port: %w", err)
	}
	if host == "" || port == "" {
		return errors.New("not host:port: one of them is empty")
	}
	return nil
}

// resolve gives the addresses behind the seeds as they are now: every one that a name has, and what a file says. What cannot be
// told is an error beside the others.
func resolve(ctx context.Context, seeds []string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	var list []string
	var errs []error
	for _, s := range seeds {
		lines := []string{s}
		if path, ok := strings.CutPrefix(s, filePrefix); ok {
			var err error
			if lines, err = readSeeds(path); err != nil {
				errs = append(errs, err)
			}
		}
		for _, line := range lines {
			addrs, err := lookup(ctx, line)
			if err != nil {
				errs = append(errs, fmt.Errorf("seed %s: %w", line, err))
			}
			list = append(list, addrs...)
		}
	}
	return list[:min(len(list), maxSeeds)], errors.Join(errs...)
}

func readSeeds(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSeedFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxSeedFile {
		return nil, fmt.Errorf("%s: more than %d bytes", path, maxSeedFile)
	}
	return parseSeeds(b), nil
}

func parseSeeds(b []byte) (list []string) {
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, maxSeedFile+1)
	for lines.Scan() && len(list) < maxSeeds {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	return list
}

// lookup gives all addresses of host:port.
func lookup(ctx context.Context, seed string) (list []string, err error) {
	host, port, err := net.SplitHostPort(seed)
	if err != nil {
		return nil, err
	}
	ips, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return nil, err
	}
	for _, ip := range ips {
		list = append(list, net.JoinHostPort(ip, port))
	}
	return list, nil
}
