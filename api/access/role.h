/* The roles of callers. */
#ifndef API_ACCESS_ROLE_H
#define API_ACCESS_ROLE_H

/* Each may do everything that those before it may. */
enum api_role {
    API_ROLE_NONE, /* everyone, without a token */
    API_ROLE_VIEWER,
    API_ROLE_OPERATOR,
    API_ROLE_APPROVER,
    API_ROLE_ADMIN,
};

/* "viewer" and so on; API_ROLE_NONE for a word that is no role. */
enum api_role api_role_of(const char *name);
const char *api_role_name(enum api_role role);

#endif
