package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forebayhub/forebay/internal/tlsdir"
	"github.com/forebayhub/forebay/runtime/api"
)

// guard stands before --http. Who asks has the token, or a certificate that may do everything: what the REST API does it does as the node. Without
// either of the two asked for, everybody comes in. /livez and /readyz are everybody's.
type guard struct {
	token   string                               // "": none comes in by one
	allowed func(chain []*x509.Certificate) bool // nil: nobody comes in by a certificate
	seal    *seal                                // of the workers that have the token; nil: none
	next    http.Handler
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if g.token == "" && g.allowed == nil || r.URL.Path == "/livez" || r.URL.Path == "/readyz" || g.known(r) {
		g.next.ServeHTTP(w, r)
		return
	}
	if g.token != "" {
		w.Header().Add("WWW-Authenticate", "Bearer")
		w.Header().Add("WWW-Authenticate", `Basic realm="forebay"`) // browsers ask for it
	}
	api.Problem(w, http.StatusUnauthorized, "a certificate of a node or a super user is needed, or the token")
}

func (g *guard) known(r *http.Request) bool {
	if g.allowed != nil && r.TLS != nil && len(r.TLS.VerifiedChains) > 0 && g.allowed(r.TLS.PeerCertificates) {
		return true
	}
	if g.token == "" {
		return false
	}
	if g.seal != nil && g.seal.holds(r) {
		return true
	}
	said, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		_, said, ok = r.BasicAuth()
	}
	// Sums of one length: the comparison tells nothing by the time it takes.
	a, b := sha256.Sum256([]byte(said)), sha256.Sum256([]byte(g.token))
	return ok && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// allowed says whose certificates come in: nodes' always, others' once the node is there to say who may do everything. Without a node only a
// node's do.
func (f *front) allowed(secrets *tlsdir.Dir) func([]*x509.Certificate) bool {
	return func(chain []*x509.Certificate) bool {
		b := f.node.Load()
		return secrets.IsNode(chain) || b != nil && secrets.Refuse(chain) == nil && b.Allows(chain)
	}
}

// minToken is a length that nobody guesses.
const minToken = 16

// httpToken reads the file of --http-token: one line.
func httpToken(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	if _, err := os.Lstat(path); err != nil { // the path is not said: it may be the token
		return "", badInput("--http-token", rootCause(err), "it is the name of a file with the token, and not the token")
	}
	text, err := readSmall("--http-token", path)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(text)
	if len(token) < minToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", badInput("--http-token "+path, "is no line of at least 16 letters, digits and signs", "make one with `head -c 32 /dev/urandom | base64`")
	}
	return token, nil
}

// webClient is how a command speaks to a node's REST API at an address.
func webClient(c *cobra.Command, addr string) (*http.Client, string, error) {
	sec, err := security(c)
	if err != nil {
		return nil, "", err
	}
	config, err := sec.Config()
	if err != nil {
		return nil, "", badInput("--command-config", err.Error(), "")
	}
	switch {
	case strings.HasPrefix(addr, "http://"):
		return http.DefaultClient, addr, nil
	case strings.HasPrefix(addr, "https://"):
		if config == nil {
			config = &tls.Config{MinVersion: tls.VersionTLS12}
		}
	case config == nil:
		return http.DefaultClient, "http://" + addr, nil
	default:
		addr = "https://" + addr
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}, addr, nil
}
