"""Stand-ins for what has no emulator: Secret Manager, IAM, and the admission of bearer tokens.

``python -m spanctl.local.standins`` serves all three from one process, on loopback, behind TLS
with a local certificate authority. Google's own clients talk to them; endpoints and the CA are all
that differs. Everything is kept in one SQLite file; files are for their owner alone.

What is served
    *Secret Manager* (gRPC): create, get, list, update and delete a secret; add, access, get, list,
    enable, disable and destroy its versions; read, set and test its IAM policy.
    *IAM Credentials* (HTTPS): ``generateAccessToken``, ``signJwt``. *IAM*: service accounts (get,
    list, create, enable, disable, policies), their keys (create, get, list, enable, disable,
    delete). *OAuth*: ``/token`` (signed assertion of a service-account key; refresh token),
    ``/tokeninfo``; public certificates and JWKs of each service account.
    *Gateway* (gRPC): every method of the Spanner emulator behind it, for live tokens only.

What is not modelled
    Secret Manager: rotation schedules and topics, expiry of secrets, CMEK, regional secrets, tags,
    secret types, quotas and rates, audit logs, filters beyond ``name:``, ``state:`` and
    ``labels.KEY=VALUE``. Each is refused by name, never ignored.
    IAM: organisations and folders, groups, conditions, deny policies, custom roles, database roles
    (FGAC), ID tokens, ``signBlob``, domain-wide delegation, workload identity, key upload,
    undeletion, rotation of Google-managed keys. Roles hold on a project, a secret or a service
    account; Spanner's only on the project.
    Time: changes of IAM policies and disabled accounts take effect at once. Aliases, ``latest``,
    version states and new keys do too, unless :mod:`spanctl.local.standins.switches` makes them
    lag. ``tokeninfo`` gives an address only for tokens with the scope ``userinfo.email``, as
    Google's does.
    Material: payloads and the service accounts' signing keys lie unencrypted in the SQLite file,
    which only its owner can read. Of tokens there are only digests.
"""
