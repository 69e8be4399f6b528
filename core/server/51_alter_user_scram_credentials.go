package server

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/controller"
)

// AlterUserScramCredentials (key 51), version 0 (KIP-554). The client has salted the password: the password itself never comes here.

func (s *Server) alterUserSCRAMCredentials(r *request) kmsg.Response {
	req := r.body.(*kmsg.AlterUserSCRAMCredentialsRequest)
	resp := kmsg.NewPtrAlterUserSCRAMCredentialsResponse()
	var changes []controller.ScramChange
	for _, d := range req.Deletions {
		changes = append(changes, controller.ScramChange{User: d.Name, Mechanism: d.Mechanism, Delete: true})
	}
	for _, u := range req.Upsertions {
		changes = append(changes, controller.ScramChange{User: u.Name, Mechanism: u.Mechanism, Iterations: u.Iterations, Salt: u.Salt, Salted: u.SaltedPassword})
	}
	ctx, cancel := adminContext(r.ctx, 30_000)
	defer cancel()
	for _, result := range s.d.Controller.AlterScram(ctx, changes) {
		out := kmsg.NewAlterUserSCRAMCredentialsResponseResult()
		s.unexpected("alter scram credentials failed", result.Err, "user", result.User)
		out.User, out.ErrorCode, out.ErrorMessage = result.User, codeOf(result.Err), messageOf(result.Err)
		resp.Results = append(resp.Results, out)
	}
	return resp
}
