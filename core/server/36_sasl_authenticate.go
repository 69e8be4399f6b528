package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// saslAuthenticate (key 36), versions 0–2 (KIP-152; v1 the session's lifetime, KIP-368), is answered here where nobody is being
// authenticated. login.go has the rest.
func (s *Server) saslAuthenticate(*request) kmsg.Response {
	resp := kmsg.NewPtrSASLAuthenticateResponse()
	err := refuse(kerr.IllegalSaslState, "SaslAuthenticate request received after successful authentication")
	resp.ErrorCode, resp.ErrorMessage, resp.SASLAuthBytes = codeOf(err), messageOf(err), []byte{}
	return resp
}
