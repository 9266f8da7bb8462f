//! VPNs on a real kernel, with the clients that people have: openvpn(8) and wg(8).

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use jiff::Timestamp;
use tempfile::TempDir;
use trestle_agent::host::Host;
use trestle_agent::{ControllerError, VpnKeys};
use trestle_api::vpn::VpnIdentity;
use trestle_core::spec::HostSpec;
use trestle_core::types::{Direction, IpProtocol, Name, ProjectId, VpnEndpoint, VpnKind};
use trestle_core::world::{Attachment, Interface, Plug, Remote, Security, Traffic, Vpn, VpnUser, World};
use uuid::Uuid;

use crate::bench::{Bench, DEADLINE, Namespace, in_namespace, sh, wait_until, without_dnsmasq};
use crate::cloud::{self, HOST, group, group_id, link_name, rule, spec};
use crate::groups::{self, Guest};

const VPN: &str = "acme-vpn";

/// A certificate authority, made with openssl(1).
struct Authority {
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        sh(&format!(
            "cd {path}; openssl ecparam -name prime256v1 -genkey -noout -out ca.key; \
             openssl req -x509 -new -key ca.key -days 3650 -subj '/CN=acme VPN CA' -out ca.crt; \
             openvpn --genkey tls-crypt tls-crypt.key"
        ));
        Self { folder }
    }

    /// A certificate with its key; `days` is when it ends.
    fn certificate(&self, name: &str, usage: &str, days: i32) {
        let path = self.folder.path().display();
        let until = (Timestamp::now() + jiff::SignedDuration::from_hours(24 * i64::from(days)))
            .strftime("%Y%m%d%H%M%SZ");
        sh(&format!(
            "cd {path}; mkdir -p db-{name}; touch db-{name}/index; openssl rand -hex 16 > db-{name}/serial; \
             printf '[ca]\\ndefault_ca=d\\n[d]\\ndatabase=db-{name}/index\\nserial=db-{name}/serial\\nnew_certs_dir=db-{name}\\ndefault_md=sha256\\npolicy=p\\nx509_extensions=x\\n[p]\\ncommonName=supplied\\n[x]\\nextendedKeyUsage={usage}\\nkeyUsage=digitalSignature\\nbasicConstraints=CA:FALSE\\n' > db-{name}/conf; \
             openssl ecparam -name prime256v1 -genkey -noout -out {name}.key; \
             openssl req -new -key {name}.key -subj '/CN={name}' -out {name}.csr; \
             openssl ca -batch -config db-{name}/conf -cert ca.crt -keyfile ca.key -in {name}.csr -out {name}.crt \
             -notext -startdate 20200101000000Z -enddate {until} 2>db-{name}/log || {{ cat db-{name}/log >&2; exit 1; }}"
        ));
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    /// What the server has, once it has a certificate.
    fn server_keys(&self) -> Keys {
        Keys(identity(&[
            ("ca.crt", self.read("ca.crt")),
            ("server.crt", self.read(&format!("{VPN}.crt"))),
            ("server.key", self.read(&format!("{VPN}.key"))),
            ("tls-crypt.key", self.read("tls-crypt.key")),
        ]))
    }

    /// What a user is given: everything in one file.
    fn client(&self, name: &str, remote: &str) -> PathBuf {
        let [ca, cert, key, crypt] =
            ["ca.crt", &format!("{name}.crt"), &format!("{name}.key"), "tls-crypt.key"]
                .map(|file| self.read(file));
        let text = format!(
            "client\ndev tun\nproto udp\nremote {remote} 1000\nnobind\nremote-cert-tls server\n\
             verify-x509-name {VPN} name\nconnect-retry 1 2\nconnect-timeout 5\nexplicit-exit-notify 1\n\
             <ca>\n{ca}</ca>\n<cert>\n{cert}</cert>\n<key>\n{key}</key>\n<tls-crypt>\n{crypt}</tls-crypt>\n"
        );
        let path = self.folder.path().join(format!("{name}.ovpn"));
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// Gives a VPN these keys.
#[derive(Debug)]
struct Keys(VpnIdentity);

impl VpnKeys for Keys {
    fn identity<'a>(
        &'a self,
        _vpn: &'a Name,
    ) -> Pin<Box<dyn Future<Output = Result<VpnIdentity, ControllerError>> + Send + 'a>> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}

fn identity(files: &[(&str, String)]) -> VpnIdentity {
    let files = files.iter().map(|(name, text)| ((*name).to_owned(), text.clone())).collect();
    VpnIdentity { id: Uuid::from_u128(7), files, now: Timestamp::now() }
}

/// The project's VPN with these users, each with the address and key that it has.
fn vpn(kind: VpnKind, users: &[(&str, &str, Option<&str>)]) -> (Vpn, Interface) {
    let name: Name = VPN.parse().unwrap();
    let interface = cloud::interface(1, 9);
    let user = |(name, address, key): &(&str, &str, Option<&str>)| {
        let user = VpnUser { address: address.parse().unwrap(), public_key: key.map(str::to_owned) };
        (name.parse().unwrap(), user)
    };
    let users: BTreeMap<Name, VpnUser> = users.iter().map(user).collect();
    let plug = Plug::Veth { netns: Vpn::netns(&name), name: link_name("eth0") };
    let own = interface.addresses[0];
    let interface = Interface {
        attachment: Some(Attachment { host: HOST, plug }),
        addresses: [own].into_iter().chain(users.values().map(|user| user.address)).collect(),
        ..interface
    };
    let vpn = Vpn {
        project: ProjectId(interface.project.0),
        name,
        kind,
        interface: interface.id,
        address: own,
        identity: Uuid::from_u128(7),
        endpoint: Some(VpnEndpoint { ip: "198.51.100.1".parse().unwrap(), port: 1000 }),
        users,
    };
    (vpn, interface)
}

/// Whoever knows how may ask the server; what it lets in is a member of group 1.
fn put(world: &mut World, (vpn, mut interface): (Vpn, Interface)) {
    let ask = Traffic::Ports(IpProtocol::UDP, "1194".parse().unwrap());
    world.put_security_group(group(2, vec![rule(20, Direction::Ingress, ask, Remote::Any)]));
    let groups = [1, 2].map(group_id).into();
    interface.security = Some(Security { groups, ..Security::default() });
    world.put_vpn(vpn);
    world.put_interface(interface);
}

fn wanted(world: &World) -> HostSpec {
    without_dnsmasq(spec(world))
}

/// Everything as it is to be, and nothing left to do.
async fn converge(bench: &Bench, world: &World) {
    bench.converge(&wanted(world)).await;
    assert_eq!(bench.plan(&wanted(world)).await, Default::default());
}

/// Somebody outside, behind the host's public device.
struct Outside<'a> {
    namespace: &'a Namespace,
}

impl<'a> Outside<'a> {
    fn new(namespace: &'a Namespace) -> Self {
        sh("ip address add 198.51.100.1/24 dev eth0");
        namespace.sh("ip link set lo up; ip address add 198.51.100.2/24 dev peer0");
        Self { namespace }
    }

    fn connects(&self, config: &std::path::Path, device: &str) -> Client {
        let log = config.with_extension(format!("{device}.log"));
        let file = std::fs::File::create(&log).unwrap();
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace.path()));
        command.args(["openvpn", "--config"]).arg(config).args(["--dev-type", "tun", "--dev", device]);
        let process = command.stdin(Stdio::null()).stdout(file).spawn().unwrap();
        Client { process, log }
    }

    fn reaches(&self, address: &str, device: &str) -> bool {
        let ping = format!("ping -n -c 1 -W 1 -I {device} {address} >/dev/null 2>&1 && echo yes || echo no");
        self.namespace.sh(&ping) == "yes\n"
    }
}

/// What makes a device of WireGuard in user space ends with it.
impl Drop for Outside<'_> {
    fn drop(&mut self) {
        self.namespace.sh("for device in wg-t1 wg-t2; do ip link delete $device 2>/dev/null || true; done");
    }
}

struct Client {
    process: Child,
    log: PathBuf,
}

impl Client {
    fn says(&self, what: &str) -> usize {
        std::fs::read_to_string(&self.log).unwrap().matches(what).count()
    }

    fn is_connected(&self) -> bool {
        self.says("Initialization Sequence Completed") > 0
    }

    fn has_ended(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn server_pid(bench: &Bench) -> i32 {
    let path = bench.path(&format!("vpns/{VPN}/pid"));
    std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

#[test]
fn users_come_in_by_openvpn_until_they_are_let_in_no_more() {
    in_namespace(|mut bench| async move {
        let authority = Authority::new();
        authority.certificate(VPN, "serverAuth", 300);
        ["alice-1", "alice-2", "bob-1"]
            .iter()
            .for_each(|user| authority.certificate(user, "clientAuth", 300));
        bench.host.take_vpn_keys_from(Arc::new(authority.server_keys()));
        let mut world = groups::world();
        let guest = Guest::new(&mut world, 1, &[1]);
        let (alice, bob) = (("alice-1", "10.0.1.77", None), ("bob-1", "10.0.1.78", None));
        put(&mut world, vpn(VpnKind::OpenVpn, &[alice, bob]));
        converge(&bench, &world).await;
        guest.begin();
        let outside = Outside::new(&bench.peer);
        let mut first = outside.connects(&authority.client("alice-1", "198.51.100.1"), "tun1");
        let second = outside.connects(&authority.client("bob-1", "198.51.100.1"), "tun2");
        wait_until("both are connected", || first.is_connected() && second.is_connected());
        wait_until("alice reaches the guest", || outside.reaches("10.0.1.11", "tun1"));
        wait_until("bob reaches the guest", || outside.reaches("10.0.1.11", "tun2"));
        assert!(!outside.reaches("198.51.100.1", "tun1"), "the host is not reached by it");
        assert!(!outside.reaches("10.0.1.78", "tun1"), "neither is another user");
        let connections = bench.host.vpn_connections().await;
        let users: Vec<String> = connections.values().flatten().map(|(user, _)| user.to_string()).collect();
        assert_eq!(users, ["alice-1", "bob-1"]);

        // One ends, the other does not notice.
        let before = second.says("\n");
        put(&mut world, vpn(VpnKind::OpenVpn, &[bob]));
        converge(&bench, &world).await;
        wait_until("alice is told", || first.has_ended());
        assert!(outside.reaches("10.0.1.11", "tun2"));
        assert_eq!(second.says("\n"), before);
        let mut again = outside.connects(&authority.client("alice-1", "198.51.100.1"), "tun1");
        wait_until("alice is refused", || again.has_ended());
        assert_eq!((again.says("AUTH_FAILED") > 0, again.is_connected()), (true, false));

        // Another certificate of the same user's has the same address, and nothing of the old one's goes with it.
        let renewed = ("alice-2", "10.0.1.77", None);
        put(&mut world, vpn(VpnKind::OpenVpn, &[alice, bob]));
        converge(&bench, &world).await;
        put(&mut world, vpn(VpnKind::OpenVpn, &[renewed, bob]));
        converge(&bench, &world).await;
        let third = outside.connects(&authority.client("alice-2", "198.51.100.1"), "tun1");
        wait_until("alice is connected again", || third.is_connected());
        wait_until("alice reaches the guest again", || outside.reaches("10.0.1.11", "tun1"));

        // A server that is killed is there again, and so are its clients; keys that are lost are had again.
        let pid = server_pid(&bench);
        std::fs::remove_file(bench.path(&format!("vpns/{VPN}/server.key"))).unwrap();
        std::fs::write(bench.path("vpns/somebody-s"), "a file").unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).unwrap();
        bench.changed().await;
        wait_until("it has ended", || !std::path::Path::new(&format!("/proc/{pid}/exe")).exists());
        converge(&bench, &world).await;
        wait_until("bob is back", || outside.reaches("10.0.1.11", "tun2"));

        // All of it goes.
        let bare = cloud::world(&[]);
        bench.converge(&wanted(&bare)).await;
        assert_eq!(bench.plan(&wanted(&bare)).await, Default::default());
        assert!(!bench.path(&format!("vpns/{VPN}")).exists());
    });
}

#[test]
fn nobody_comes_in_by_openvpn_with_a_certificate_that_is_not_right() {
    in_namespace(|mut bench| async move {
        let (authority, foreign) = (Authority::new(), Authority::new());
        authority.certificate(VPN, "serverAuth", 300);
        authority.certificate("alice-1", "clientAuth", 300);
        authority.certificate("late-1", "clientAuth", -1);
        authority.certificate("host-1", "serverAuth", 300);
        foreign.certificate("alice-1", "clientAuth", 300);
        bench.host.take_vpn_keys_from(Arc::new(authority.server_keys()));
        let mut world = groups::world();
        let users =
            [("alice-1", "10.0.1.77", None), ("late-1", "10.0.1.78", None), ("host-1", "10.0.1.79", None)];
        put(&mut world, vpn(VpnKind::OpenVpn, &users));
        converge(&bench, &world).await;
        let outside = Outside::new(&bench.peer);
        // A foreign one of the same name, and one that is forged: the right certificate, another key.
        for file in ["ca.crt", "tls-crypt.key"] {
            std::fs::write(foreign.folder.path().join(file), authority.read(file)).unwrap();
        }
        let forged = Authority { folder: tempfile::tempdir().unwrap() };
        for file in ["ca.crt", "tls-crypt.key", "alice-1.crt"] {
            std::fs::write(forged.folder.path().join(file), authority.read(file)).unwrap();
        }
        std::fs::write(forged.folder.path().join("alice-1.key"), authority.read("late-1.key")).unwrap();
        let refused = [
            outside.connects(&authority.client("late-1", "198.51.100.1"), "tun1"),
            outside.connects(&authority.client("host-1", "198.51.100.1"), "tun2"),
            outside.connects(&foreign.client("alice-1", "198.51.100.1"), "tun3"),
            outside.connects(&forged.client("alice-1", "198.51.100.1"), "tun4"),
        ];
        let log = || std::fs::read_to_string(bench.path(&format!("vpns/{VPN}/log"))).unwrap();
        wait_until("one that ended is refused", || log().contains("certificate has expired"));
        wait_until("one for servers is refused", || log().contains("unsuitable certificate purpose"));
        wait_until("a foreign one is refused", || log().contains("unable to get local issuer certificate"));
        // openssl does not even begin with it.
        wait_until("a forged one is refused", || refused[3].says("key values mismatch") > 0);
        let good = outside.connects(&authority.client("alice-1", "198.51.100.1"), "tun5");
        wait_until("the right one is let in", || good.is_connected());
        assert!(!refused.iter().any(Client::is_connected));
    });
}

/// A pair of keys of WireGuard: the private and the public one.
fn wireguard_keys() -> (String, String) {
    let private = sh("wg genkey").trim().to_owned();
    let public = sh(&format!("echo {private} | wg pubkey")).trim().to_owned();
    (private, public)
}

#[test]
fn users_come_in_by_wireguard_until_they_are_let_in_no_more() {
    in_namespace(|mut bench| async move {
        let [server, alice, bob] = [(), (), ()].map(|()| wireguard_keys());
        bench.host.take_vpn_keys_from(Arc::new(Keys(identity(&[("private.key", server.0.clone())]))));
        let mut world = groups::world();
        let guest = Guest::new(&mut world, 1, &[1]);
        let users = [("alice-1", "10.0.1.77", Some(&*alice.1)), ("bob-1", "10.0.1.78", Some(&*bob.1))];
        put(&mut world, vpn(VpnKind::WireGuard, &users));
        converge(&bench, &world).await;
        guest.begin();
        let outside = Outside::new(&bench.peer);
        for (device, address, key) in [("wg-t1", "10.0.1.77", &alice.0), ("wg-t2", "10.0.1.78", &bob.0)] {
            let peer = format!(
                "[Peer]\\nPublicKey = {}\\nEndpoint = 198.51.100.1:1000\\nAllowedIPs = 10.0.1.0/24",
                server.1
            );
            outside.namespace.sh(&format!(
                "ip link add {device} type wireguard 2>/dev/null || wireguard-go {device} >/dev/null 2>&1; \
                 printf \"[Interface]\\nPrivateKey = {key}\\n{peer}\\n\" | wg setconf {device} /dev/stdin; \
                 ip address add {address}/32 dev {device}; ip link set {device} up mtu 1420"
            ));
        }
        outside
            .namespace
            .sh("ip route add 10.0.1.0/24 dev wg-t1; ip route add 10.0.1.0/24 dev wg-t2 metric 2");
        wait_until("alice reaches the guest", || outside.reaches("10.0.1.11", "wg-t1"));
        wait_until("bob reaches the guest", || outside.reaches("10.0.1.11", "wg-t2"));
        assert!(!outside.reaches("198.51.100.1", "wg-t1"), "the host is not reached by it");
        assert!(!outside.reaches("10.0.1.78", "wg-t1"), "neither is another user");
        let connections = bench.host.vpn_connections().await;
        let names: Vec<String> = connections.values().flatten().map(|(user, _)| user.to_string()).collect();
        assert_eq!(names, ["alice-1", "bob-1"]);

        put(&mut world, vpn(VpnKind::WireGuard, &users[1..]));
        converge(&bench, &world).await;
        assert!(!outside.reaches("10.0.1.11", "wg-t1"));
        assert!(outside.reaches("10.0.1.11", "wg-t2"));

        // The tunnel is gone, however it went.
        let netns = bench.path(&format!("vpns/{VPN}/netns"));
        sh(&format!("nsenter --net={} ip link delete wg-000000001009", netns.display()));
        converge(&bench, &world).await;
        wait_until("bob is back", || outside.reaches("10.0.1.11", "wg-t2"));
        assert!(!outside.reaches("10.0.1.11", "wg-t1"));

        // What keeps the namespace is killed: all is made anew, once the kernel has taken the device away with it.
        let keeper = std::fs::read_link(&netns).unwrap().iter().nth(2).unwrap().to_owned();
        sh(&format!("kill -9 {}", keeper.display()));
        wait_until("it has ended", || {
            !std::path::Path::new(&format!("/proc/{}/exe", keeper.display())).exists()
        });
        let deadline = std::time::Instant::now() + DEADLINE;
        while let steps = bench.plan(&wanted(&world)).await.steps
            && !steps.is_empty()
        {
            bench.host.apply(&steps).await;
            assert!(std::time::Instant::now() < deadline, "{steps:?}");
        }
        wait_until("bob is back again", || outside.reaches("10.0.1.11", "wg-t2"));

        let bare = cloud::world(&[]);
        bench.converge(&wanted(&bare)).await;
        assert!(!bench.path(&format!("vpns/{VPN}")).exists());
    });
}

#[test]
fn a_host_whose_clock_is_off_starts_no_server_and_says_so() {
    in_namespace(|mut bench| async move {
        let mut keys = Keys(identity(&[]));
        keys.0.now -= jiff::SignedDuration::from_hours(2);
        bench.host.take_vpn_keys_from(Arc::new(keys));
        let mut world = groups::world();
        put(&mut world, vpn(VpnKind::OpenVpn, &[]));
        let steps = bench.plan(&wanted(&world)).await.steps;
        let failures = bench.host.apply(&steps).await;
        let [failure] = &failures[..] else { panic!("{failures:#?}") };
        let said = std::error::Error::source(&failure.error).unwrap().to_string();
        assert!(
            said.starts_with("the clock of this host says ") && said.ends_with("set the clock"),
            "{said}"
        );
        assert!(!bench.path(&format!("vpns/{VPN}/identity")).exists(), "nothing of it is kept");
    });
}
