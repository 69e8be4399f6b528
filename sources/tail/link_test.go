package tail

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// As in Kubernetes: /var/log/containers/x.log leads to /var/log/pods/x/0.log, and it is that folder in which kubelet
// rotates.
type linked struct{ link, target string }

func newLinked(t *testing.T) linked {
	t.Helper()
	containers, pod := t.TempDir(), t.TempDir()
	l := linked{link: in(containers, "x.log"), target: in(pod, "0.log")}
	must(t, os.Symlink(l.target, l.link))
	return l
}

func (l linked) hub(t *testing.T, fields ...string) *hub {
	return newHub(t, append([]string{"paths", strings.Replace(l.link, "x.log", "*.log", 1)}, fields...)...)
}

func TestLinkRotatedWhileStopped(t *testing.T) {
	for old, hows := range map[bool][]string{
		false: {"rename", "rename twice", "copytruncate", "link removed"},
		true:  {"rename", "rename twice", "copytruncate"}, // a position from before targets were in it
	} {
		for _, how := range hows {
			t.Run(fmt.Sprintf("%s, old position %v", how, old), func(t *testing.T) {
				l := newLinked(t)
				h := l.hub(t)
				text, want := lines(1, 0, 10)
				half := len(text) / 2
				write(t, l.target, text[:half])
				h.start()
				h.expect(want[:5]...)
				h.kill()
				for key, at := range h.positions {
					p, err := parsePosition(at)
					must(t, err)
					if p.Target == "" {
						t.Fatalf("position %s", at)
					}
					if old {
						p.Target = ""
						h.positions[key] = fileOf(p).position()
					}
				}
				write(t, l.target, text[half:])
				next, more := lines(2, 0, 5)
				switch how {
				case "copytruncate":
					copyFile(t, l.target, l.target+".1")
					must(t, os.Truncate(l.target, 0))
					write(t, l.target, next)
				case "link removed":
					must(t, os.Remove(l.link))
					more = nil
				case "rename twice":
					must(t, os.Rename(l.target, l.target+".20261130-101010"))
					middle, values := lines(3, 0, 5)
					write(t, l.target, middle)
					at := time.Now().Add(time.Second)
					must(t, os.Chtimes(l.target, at, at))
					must(t, os.Rename(l.target, l.target+".20261130-111010"))
					write(t, l.target, next)
					want = append(want, values...)
				default:
					must(t, os.Rename(l.target, l.target+".20261130-101010"))
					write(t, l.target, next)
				}
				h.start()
				h.expect(append(want, more...)...)
				for _, r := range h.records {
					if r.path != l.link {
						t.Fatalf("path %s", r.path)
					}
				}
			})
		}
	}
}

// While it runs too, for files that have no descriptor.
func TestLinkRotatedWhileClosed(t *testing.T) {
	l := newLinked(t)
	h := l.hub(t, "rotate_wait", "1h")
	text, want := lines(1, 0, 10)
	half := len(text) / 2
	write(t, l.target, text[:half])
	h.start()
	h.expect(want[:5]...)
	h.task.shut(h.task.order[0])
	write(t, l.target, text[half:])
	must(t, os.Rename(l.target, l.target+".20261130-101010"))
	next, more := lines(2, 0, 5)
	write(t, l.target, next)
	h.expect(append(want, more...)...)
}

// What the link leads to is on a file system that is not mounted yet.
func TestLinkLeadsNowhereYet(t *testing.T) {
	l := newLinked(t)
	h := l.hub(t, "rotate_wait", "1ms")
	write(t, l.target, "1\n")
	h.start()
	h.expect("1")
	h.kill()
	back := hide(t, "unreadable", l.target[:len(l.target)-len("/0.log")])
	h.start()
	for range 5 {
		h.looks(1)
		h.read(2*time.Millisecond, false) // longer than rotate_wait
	}
	h.kept(1)
	back()
	write(t, l.target, "2\n")
	h.expect("1", "2")
}
