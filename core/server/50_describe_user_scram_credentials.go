package server

import (
	"cmp"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeUserScramCredentials (key 50), version 0 (KIP-554): who has a credential, and how dear it is. Nothing of the
// credential itself is told.

func (s *Server) describeUserSCRAMCredentials(r *request) kmsg.Response {
	req := r.body.(*kmsg.DescribeUserSCRAMCredentialsRequest)
	resp := kmsg.NewPtrDescribeUserSCRAMCredentialsResponse()
	infos := map[string][]kmsg.DescribeUserSCRAMCredentialsResponseResultCredentialInfo{}
	for u, c := range s.d.Controller.Image().Scram {
		i := kmsg.NewDescribeUserSCRAMCredentialsResponseResultCredentialInfo()
		i.Mechanism, i.Iterations = u.Mechanism, int32(c.Iterations)
		infos[u.Name] = append(infos[u.Name], i)
	}
	times := map[string]int{}
	var names []string
	for _, u := range req.Users {
		if times[u.Name]++; times[u.Name] == 1 {
			names = append(names, u.Name)
		}
	}
	if len(req.Users) == 0 { // null too
		for name := range infos {
			names = append(names, name)
		}
		slices.Sort(names)
	}
	for _, name := range names {
		out := kmsg.NewDescribeUserSCRAMCredentialsResponseResult()
		out.User = name
		switch {
		case times[name] > 1:
			err := refuse(kerr.DuplicateResource, "Cannot describe SCRAM credentials for the same user twice in a single request: "+name)
			out.ErrorCode, out.ErrorMessage = codeOf(err), messageOf(err)
		case len(infos[name]) == 0:
			err := refuse(kerr.ResourceNotFound, "Attempt to describe a user credential that does not exist: "+name)
			out.ErrorCode, out.ErrorMessage = codeOf(err), messageOf(err)
		default:
			slices.SortFunc(infos[name], func(a, b kmsg.DescribeUserSCRAMCredentialsResponseResultCredentialInfo) int {
				return cmp.Compare(a.Mechanism, b.Mechanism)
			})
			out.CredentialInfos = infos[name]
		}
		resp.Results = append(resp.Results, out)
	}
	return resp
}
