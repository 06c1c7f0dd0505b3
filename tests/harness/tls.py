"""Certificates for a backend that speaks TLS: an authority made for one test, and a
server certificate signed by it."""

from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """`ca_file` is what clients trust; issue() makes certificates for servers."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = common_name("Test authority")
        certificate = (
            builder(self.name, self.name, self.key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.ca_file = self.directory / "ca.pem"
        self.ca_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, *dns_names):
        """(certificate file, key file), as Backend(tls=…) takes them."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in dns_names])
        certificate = (
            builder(common_name("Test server"), self.name, key.public_key())
            .add_extension(alternatives, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        stem = self.directory / dns_names[0]
        certificate_file, key_file = stem.with_suffix(".crt"), stem.with_suffix(".key")
        certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return certificate_file, key_file


def builder(subject, issuer, public_key):
    now = datetime.now(timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )


def common_name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
