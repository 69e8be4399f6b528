package postgres

import (
	"syscall"
	"testing"

	"github.com/forebayhub/forebay/connectors"
	"golang.org/x/sys/unix"
)

// TestVanished: either end notices when the other's machine is gone.
func TestVanished(t *testing.T) {
	url := testURL(t)
	sql(t, dial(t, url), "CREATE TABLE a(id int PRIMARY KEY)", "CREATE TABLE b(id int)")
	src := configure(t, url, []string{"public.a", "public.b"}, nil)
	for _, replication := range []bool{false, true} {
		c, err := src.connect(t.Context(), replication)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := c.Conn().(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.Control(func(fd uintptr) {
			if v, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); err != nil || v != 30000 {
				t.Errorf("TCP_USER_TIMEOUT is %d (%v)", v, err)
			}
		}); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3", "tcp_user_timeout": "0"} {
			if got := string(sql(t, c, "SHOW "+name)[0][0]); got != want {
				t.Errorf("%s is %s", name, got)
			}
		}
		closeConn(c)
	}
	task := src.Task(connectors.Split{ID: splitID}).(*task)
	if err := task.Open(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = task.Close() }()
	for _, tt := range task.pending {
		if err := task.beginRun(t.Context(), connectors.NewBatch(1<<10), tt); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"a": "300000", "b": "0"}[tt.name.table]
		if err := task.current.w.exec(t.Context(), "DO $$ BEGIN ASSERT current_setting('tcp_user_timeout') = '"+want+"', current_setting('tcp_user_timeout'); END $$"); err != nil {
			t.Errorf("a run of %s: tcp_user_timeout: %v", tt.name, err)
		}
		if err := task.endRun(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
