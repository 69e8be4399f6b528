package main

import (
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The floor is what no broker on this machine can beat, measured in the same run: bytes over loopback, checked and
// written to the page cache (produce), sent by sendfile (consume), and what the disk takes. Only the broker's end is
// counted: the other end is this program again.
const (
	floorBytes = 1 << 30
	otherEnd   = "BENCH_OTHER_END" // of the environment: send or receive
)

// beOtherEnd is the other end's work, if this process is it.
func beOtherEnd() bool {
	what, addr, found := os.Getenv(otherEnd), "", len(os.Args) == 2
	if what == "" || !found {
		return false
	}
	addr = os.Args[1]
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return true
	}
	defer c.Close()
	b := make([]byte, 1<<18)
	for n := 0; n < floorBytes; {
		var k int
		if what == "send" {
			k, err = c.Write(b[:1<<16])
		} else {
			k, err = c.Read(b)
		}
		if err != nil {
			return true
		}
		n += k
	}
	return true
}

func ownCPU() float64 {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r) // cannot fail for oneself
	return float64(r.Utime.Sec+r.Stime.Sec) + float64(r.Utime.Usec+r.Stime.Usec)/1e6
}

// withOther connects the other end and times do.
func withOther(what string, do func(c *net.TCPConn) error) (measure, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return measure{}, err
	}
	defer l.Close()
	self, err := os.Executable()
	if err != nil {
		return measure{}, err
	}
	cmd := exec.Command(self, l.Addr().String())
	cmd.Env = append(os.Environ(), otherEnd+"="+what)
	if err := cmd.Start(); err != nil {
		return measure{}, err
	}
	defer func() { _ = cmd.Wait() }() // it ends with the connection
	c, err := l.Accept()
	if err != nil {
		return measure{}, err
	}
	defer c.Close()
	cpu, began := ownCPU(), time.Now()
	if err := do(c.(*net.TCPConn)); err != nil {
		return measure{}, err
	}
	return measure{floorBytes / 1e6 / time.Since(began).Seconds(), (ownCPU() - cpu) / (floorBytes / 1e9)}, nil
}

// receive reads everything, and with a file checks and writes it.
func receive(c net.Conn, f *os.File) error {
	table := crc32.MakeTable(crc32.Castagnoli)
	b := make([]byte, 1<<18)
	for n := 0; n < floorBytes; n += len(b) {
		if _, err := io.ReadFull(c, b); err != nil {
			return err
		}
		if f == nil {
			continue
		}
		_ = crc32.Checksum(b, table) // the work counts, not the sum
		if _, err := f.Write(b); err != nil {
			return err
		}
	}
	return nil
}

func sendfile(c *net.TCPConn, f *os.File) error {
	for n := int64(0); n < floorBytes; {
		k, err := c.ReadFrom(&io.LimitedReader{R: f, N: 1 << 20})
		if err != nil || k == 0 {
			return fmt.Errorf("sendfile ended after %d bytes: %w", n, err)
		}
		n += k
	}
	return nil
}

// floor measures once, on the disk of dir.
func floor(dir string, r *results) error {
	m, err := withOther("send", func(c *net.TCPConn) error { return receive(c, nil) })
	if err != nil {
		return err
	}
	r.add("floor, loopback copy", m)
	f, err := os.Create(filepath.Join(dir, "floor"))
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if m, err = withOther("send", func(c *net.TCPConn) error { return receive(c, f) }); err != nil {
		return err
	}
	r.add("floor, receive + CRC-32C + write", m)
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if m, err = withOther("receive", func(c *net.TCPConn) error { return sendfile(c, f) }); err != nil {
		return err
	}
	r.add("floor, sendfile", m)
	return disk(dir, r)
}

// disk writes as dd does, in blocks of 1 MiB.
func disk(dir string, r *results) error {
	for _, d := range []struct {
		name  string
		flag  int
		total int
		sync  bool
	}{{"dd, page cache", 0, 512 << 20, false}, {"dd, conv=fdatasync", 0, 512 << 20, true}, {"dd, oflag=dsync", unix.O_DSYNC, 128 << 20, false}} {
		name := filepath.Join(dir, "dd")
		f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|d.flag, 0o644)
		if err != nil {
			return err
		}
		b := make([]byte, 1<<20)
		began := time.Now()
		for n := 0; n < d.total && err == nil; n += len(b) {
			_, err = f.Write(b)
		}
		if err == nil && d.sync {
			err = unix.Fdatasync(int(f.Fd()))
		}
		took := time.Since(began).Seconds()
		_ = f.Close() // it was measured
		_ = os.Remove(name)
		if err != nil {
			return err
		}
		r.rate(d.name, float64(d.total)/1e6/took)
	}
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	b := make([]byte, 4096)
	var took []float64
	for range 1000 {
		if _, err := f.Write(b); err != nil {
			return err
		}
		began := time.Now()
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return err
		}
		took = append(took, millis(time.Since(began)))
	}
	r.quantiles("fdatasync of 4 KiB", took)
	return nil
}

func millis(d time.Duration) float64 { return float64(d) / 1e6 }

// quantile of values, which it sorts.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[min(int(q*float64(len(values))), len(values)-1)]
}
