//! Compiles what the crate has in C++, against the headers of libtorch.

#[path = "../build.rs"]
mod rpath;

fn main() {
    rpath::main();
    println!("cargo:rerun-if-changed=native/packed_linear.cpp");
    let Ok(root) = std::env::var("LIBTORCH") else { return };
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(format!("{root}/include"))
        .file("native/packed_linear.cpp")
        .compile("packed_linear");
}
