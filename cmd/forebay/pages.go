package main

import (
	"fmt"
	"mime"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/forebayhub/forebay/runtime/api"
)

// pages keeps what a web page of another site makes a browser send from being done: a browser comes from its user's machine, and with the password
// or the certificate that it remembers. Who is no browser says no Origin and no Sec-Fetch-Site, and passes.
type pages struct {
	// open: only this machine's users reach --http, and they need no token.
	open  bool
	cross http.CrossOriginProtection
	next  http.Handler
}

func (p *pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case p.cross.Check(r) != nil && unasked(r):
		api.Problem(w, http.StatusForbidden, fmt.Sprintf("a web page of another site (%s) has made a browser send this: it is not done. A program of your own leaves the Origin header out, or sends application/json", r.Header.Get("Origin")))
	case p.open && r.Header.Get("Origin") != "" && !local(r.Host):
		api.Problem(w, http.StatusForbidden, fmt.Sprintf("a web page has made a browser send this to %s, which is no name of this machine: it is not done. Come by localhost, or start the node with --http-token", r.Host))
	default:
		p.next.ServeHTTP(w, r)
	}
}

// simple are the types of what a page may send to another site without leave (Fetch, "CORS-safelisted request-header").
var simple = []string{"application/x-www-form-urlencoded", "multipart/form-data", "text/plain"}

// unasked says whether a browser sends this to another site without asking there first (a preflight, which is never granted here). What it asks for
// may come with a foreign Origin all the same: a console's proxy hands on its own page's.
func unasked(r *http.Request) bool {
	is, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return r.Method == http.MethodPost && (err != nil || slices.Contains(simple, is))
}

// local says whether a Host header names this machine and not something that somebody else's DNS says is here ("DNS rebinding"): then a browser takes his
// page for one of this node's.
func local(hostPort string) bool {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		host = strings.Trim(hostPort, "[]")
	}
	host = strings.ToLower(host)
	if net.ParseIP(host) != nil || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	name, err := os.Hostname()
	return err == nil && host == strings.ToLower(name)
}
