//go:build linux

package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

const inside = "FOREBAY_TEST_INSIDE_NAMESPACE"

// Enter runs this program again, in network and mount namespaces of its own, and ends with its exit code; inside it returns. So nothing of a network
// outlives the program, and its addresses and mounts meet nobody else's. Without root it makes a user namespace, too. For TestMain.
func Enter() {
	if os.Getenv(inside) != "" {
		return
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: unix.CLONE_NEWNET, Unshareflags: unix.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	runtime.LockOSThread() // the child dies with the thread that made it
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "this test runs in namespaces of its own, which needs root or user namespaces:", err)
		os.Exit(1)
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s) // it may have ended
		}
	}()
	err := cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		os.Exit(0)
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		os.Exit(exit.ExitCode())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// newHost makes an interface in a namespace of its own, or in this process's.
func newHost(addr netip.Addr, own bool) (*Host, error) {
	h := &Host{Addr: addr}
	if !own {
		return h, h.plug()
	}
	h.work, h.done = make(chan func()), make(chan struct{})
	made := make(chan error, 1)
	go func() {
		defer close(h.done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and the namespace with the thread and its children
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- fmt.Errorf("a network namespace: %w", err)
			return
		}
		made <- h.plug()
		for fn := range h.work {
			fn()
		}
	}()
	return h, <-made
}

// Do runs fn in the host's namespace; processes that it starts live there.
func (h *Host) Do(fn func() error) error {
	err := make(chan error, 1)
	h.work <- func() { err <- fn() }
	return <-err
}

// plug makes the interface, in the namespace of the calling thread.
func (h *Host) plug() error {
	tun, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("/dev/net/tun: %w", err)
	}
	h.tun, err = h.bind(tun)
	if err != nil {
		_ = unix.Close(tun)
	}
	return err
}

func (h *Host) bind(tun int) (*os.File, error) {
	const name = "forebay"
	r, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(tun, unix.TUNSETIFF, r); err != nil {
		return nil, fmt.Errorf("TUNSETIFF: %w", err)
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(s)
	addr := h.Addr.As4()
	for _, step := range []struct {
		name, device string
		request      uint
		set          func(*unix.Ifreq) error
	}{
		{"loopback up", "lo", unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP); return nil }},
		{"MTU", name, unix.SIOCSIFMTU, func(r *unix.Ifreq) error { r.SetUint32(mtu); return nil }},
		{"address", name, unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(addr[:]) }},
		{"netmask", name, unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr([]byte{255, 255, 255, 0}) }},
		{"up", name, unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP); return nil }},
	} {
		r, err := unix.NewIfreq(step.device)
		if err == nil {
			err = step.set(r)
		}
		if err == nil {
			err = unix.IoctlIfreq(s, step.request, r)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	if err := unix.SetNonblock(tun, true); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(tun), "/dev/net/tun"), nil
}
