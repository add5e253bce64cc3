package httpapi

import "testing"

// What policies say of a user or a role holds for every spelling of the name.
func TestNamesHaveOnePath(t *testing.T) {
	s := ready(t, 1, 1)
	s.mountAll()
	root := withToken(s.root)
	s.do("PUT", "sys/policies/acl/most", `{"policy":"path \"auth/*\" { capabilities = [\"create\",\"read\",\"update\",\"delete\"] }\n`+
		`path \"auth/userpass/users/alice\" { capabilities = [\"deny\"] }\npath \"auth/approle/role/app/*\" { capabilities = [\"deny\"] }"}`, root).want(204)
	token, _ := s.newToken(`{"policies":["most"]}`)
	most := withToken(token)
	s.do("POST", "auth/userpass/users/alice", `{"password":"a long enough one"}`, root).want(204)
	s.do("POST", "auth/approle/role/APP", "", root).want(204)
	s.do("GET", "auth/userpass/users/alice", "", most).want(403)
	s.do("GET", "auth/userpass/users/bob", "", most).want(404)
	for _, path := range []string{
		"auth/userpass/users/ALICE", "auth/userpass/users/aLice", "auth/userpass/users/%20alice", "auth/userpass/users/alice%20",
		"auth/approle/role/APP/role-id", "auth/approle/role/aPP/role-id",
	} {
		s.do("GET", path, "", most).want(403)
		s.do("GET", path, "", root).want(200)
	}
	s.do("POST", "auth/userpass/users/ALICE", `{"token_policies":"most"}`, most).want(403)
	s.do("DELETE", "auth/userpass/users/Alice", "", most).want(403)
	s.do("POST", "auth/userpass/login/ALICE", `{"password":"a long enough one"}`).want(200)
}
