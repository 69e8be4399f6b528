package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// saslHandshake (key 17), versions 0–1, is answered here where there is nothing to shake hands about: on a listener
// without SASL, and too soon after the last time. login.go has the rest.
func (s *Server) saslHandshake(*request) kmsg.Response {
	resp := kmsg.NewPtrSASLHandshakeResponse()
	resp.ErrorCode = kerr.IllegalSaslState.Code
	return resp
}
