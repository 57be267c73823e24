package page
import ("testing";"os";"encoding/json";"path/filepath";"smelt/analysis")
func TestZZ(t *testing.T){
 b,_:=os.ReadFile(os.Getenv("AN")+"/analysis.json"); var r analysis.Report
 if err:=json.Unmarshal(b,&r);err!=nil{t.Fatal(err)}
 os.MkdirAll(os.Getenv("AN")+"/figures",0o755)
 fs,err:=Of(&r).Files(); if err!=nil{t.Fatal(err)}; for _,x:=range fs{os.WriteFile(filepath.Join(os.Getenv("AN"),x.Path),x.Data,0o644)}
}
