//go:build long

package interop

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/tests/node"
)

// TestPageInABrowser opens the page in Chromium, without scripts: it shows the connectors, loads itself again, asks for nothing else, and what a user has named stays text.
func TestPageInABrowser(t *testing.T) {
	n := node.New(t, "--data", t.TempDir())
	n.Start()
	d := &restDialogue{t: t, address: n.HTTP}
	evil := `<script>document.title='owned'</script><img src='/evil'>`
	code, text := d.do(http.MethodPut, "/connectors/shop/config", d.flat(map[string]string{"connector.class": "postgres", "url": "postgres://u:s3cret@127.0.0.1:1/" + url.PathEscape(evil), "tables": "public.orders"}))
	if code != http.StatusCreated {
		t.Fatal(code, text)
	}
	d.until("it has failed once", "/connectors/shop/status", func(text []byte) bool { return strings.Contains(string(text), "owned") })

	asked := make(chan string, 100)
	to := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: n.HTTP})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		to.ServeHTTP(w, r)
	}))
	defer front.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	browser := func(more ...string) *exec.Cmd {
		args := append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir=" + t.TempDir()}, more...)
		cmd := exec.CommandContext(ctx, testenv.Chromium(t), append(args, front.URL+"/")...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		return cmd
	}
	dom, err := browser("--dump-dom").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<title>Forebay</title>", `<th scope="row">shop</th>`, "RESTARTING", "&lt;script&gt;"} {
		if !strings.Contains(string(dom), want) {
			t.Errorf("the page does not show %s:\n%s", want, dom)
		}
	}
	for _, bad := range []string{"<script", "<img", "s3cret"} {
		if strings.Contains(string(dom), bad) {
			t.Errorf("the page has %s:\n%s", bad, dom)
		}
	}
	open := browser("--remote-debugging-port=0", "--blink-settings=scriptEnabled=false") // stays until it is ended
	if err := open.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = open.Process.Kill() // it may have ended
		_ = open.Wait()         // it says that it was killed
	}()
	for range 4 { // one for the first browser, and two loads more than the second one's first
		select {
		case path := <-asked:
			if path != "/" {
				t.Errorf("the page has %s loaded", path)
			}
		case <-ctx.Done():
			t.Fatal("the page does not load itself again")
		}
	}
}
